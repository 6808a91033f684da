"""Tasks (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

from typing import Any

from freehold.lab.answers import bad_parameters
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call, Extra
from freehold.lab.formats import split_list
from freehold.lab.tasks import Task, owner_and_node

_TASK = "/nodes/{node}/tasks/{upid}"


def owns(user: str, task_user: str) -> bool:
    """A user owns what its tokens started; a token only what it started itself."""
    return task_user == user or task_user.startswith(user + "!")


def _owner(task: Task) -> dict[str, str]:
    user, _, token = task.user.partition("!")
    return {"user": user, **({"tokenid": token} if token else {})}


def _listed(task: Task) -> dict[str, Any]:
    base = {key: getattr(task, key) for key in ("upid", "node", "pid", "pstart", "starttime", "type", "id")}
    if task.running:
        return {**base, "user": task.user, "status": "RUNNING", "saved": "0"}
    return {**base, **_owner(task), "status": task.status, "endtime": task.endtime}


def _status_type(task: Task) -> str:
    status = task.status or ""
    if status == "OK":
        return "ok"
    return (
        "warning"
        if status.startswith("WARNINGS")
        else "unknown"
        if status == "unexpected status"
        else "error"
    )


@endpoint("GET /nodes/{node}/tasks")
def tasks(call: Call) -> Any:
    """The tasks that the caller may see, newest first; finished ones unless ``source`` says otherwise."""
    lab, source = call.lab, call.get("source") or "archive"
    audit = lab.access.has(call.user, f"/nodes/{lab.state.node.name}", "Sys.Audit")
    found = [task for task in lab.tasks.all() if audit or owns(call.user, task.user)]
    found = [task for task in found if source == "all" or task.running == (source == "active")]
    if source == "all":
        found.sort(key=lambda task: not task.running)
    if (since := call.get("since")) is not None:
        found = [task for task in found if task.starttime >= int(since)]
    if (until := call.get("until")) is not None:
        found = [task for task in found if task.starttime <= int(until)]
    if (vmid := call.get("vmid")) is not None:
        found = [task for task in found if task.id == vmid]
    if kind := call.get("typefilter"):
        found = [task for task in found if task.type == kind]
    if name := call.get("userfilter"):
        found = [task for task in found if name.lower() in task.user.lower()]
    if call.flag("errors"):
        found = [task for task in found if not task.running and _status_type(task) in ("error", "unknown")]
    if wanted := split_list(call.get("statusfilter") or ""):
        found = [task for task in found if not task.running and _status_type(task) in wanted]
    start, limit = call.number("start"), call.number("limit", 50)
    shown = [_listed(task) for task in found[start : start + limit]]
    return Extra(shown, {"total": len(found)} if found else {})


@endpoint("GET /cluster/tasks")
def cluster_tasks(call: Call) -> Any:
    """The newest tasks of the cluster that the caller may see."""
    lab = call.lab
    audit = lab.access.has(call.user, "/", "Sys.Audit")
    return [_listed(task) for task in lab.tasks.all()[:25] if audit or owns(call.user, task.user)]


def _check(call: Call, privilege: str) -> str:
    """The UPID, when the caller may do this with the task."""
    upid = str(call.params["upid"])
    parsed = owner_and_node(upid)
    if parsed is None:
        raise bad_parameters({"upid": "unable to parse worker upid"})
    if not owns(call.user, parsed[0]):
        call.lab.access.check(call.user, f"/nodes/{call.lab.state.node.name}", privilege)
    return upid


@endpoint("GET " + _TASK)
def index(_call: Call) -> Any:
    """The directory of a task."""
    return [{"name": "log"}, {"name": "status"}]


@endpoint("GET " + _TASK + "/status")
def status(call: Call) -> Any:
    """The state of a task, with its exit status when it has ended."""
    task = call.lab.tasks.get(_check(call, "Sys.Audit"))
    if task is None:
        raise bad_parameters({"upid": "no such task"})
    answer = {key: getattr(task, key) for key in ("upid", "node", "pid", "pstart", "starttime", "type", "id")}
    answer |= {**_owner(task), "status": "running" if task.running else "stopped"}
    if not task.running:
        answer["exitstatus"] = task.status
    return answer


@endpoint("GET " + _TASK + "/log")
def log(call: Call) -> Any:
    """Lines of a task's log; ``start`` counts from 0, the numbers of lines from 1."""
    lines = call.lab.tasks.log_lines(_check(call, "Sys.Audit"))
    if lines is None:
        lines = ["unable to open file - No such file or directory"]
    start, limit = call.number("start"), call.number("limit", 50)
    chosen = lines[start : start + limit] if limit else lines[start:]
    return Extra([{"n": n, "t": text} for n, text in enumerate(chosen, start + 1)], {"total": len(lines)})


@endpoint("DELETE " + _TASK)
def stop(call: Call) -> Any:
    """Stop a task; one that has ended is no error."""
    call.lab.tasks.stop(_check(call, "Sys.Modify"))
