"""Make a plan's changes, one container after the other's step, many containers at once.

Every call may be repeated by running again: a container that is already started, of that size or gone counts as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from freehold.proxmox import errors, firewall
from freehold.proxmox.changes import ApiCall, Change, Phase, Plan, RootStep
from freehold.proxmox.client import PARALLEL, Progress, PveClient, is_upid
from freehold.proxmox.observe import split_tags
from freehold.proxmox.spec import OWNER_TAG, client_tag

Report = Callable[[Change, str], None]
"""Called with a change and ``started``, ``done``, ``failed`` or a short text of progress."""

_BUSY_ATTEMPTS = 3


class Outcome(BaseModel):
    """What a call did."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    changed: bool
    """Whether anything changed; a container that was already in the wanted state did not."""
    warnings: tuple[str, ...] = ()


def execute(
    client: PveClient, call: ApiCall, *, doing: str | None = None, progress: Progress | None = None
) -> Outcome:
    """Make one call and follow its task to the end.

    Raises:
        ForeignGuestError: The container does not carry the tags of `ApiCall.owned_by` any more.
        PveError: The API refused the call, or its task failed.
    """
    what = doing or f"{call.method} {call.path}"
    if call.owned_by and not _still_owned(client, call, what):
        return Outcome(changed=False)
    repeat = Retrying(
        retry=retry_if_exception_type(errors.ConfigBusyError),
        stop=stop_after_attempt(_BUSY_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        reraise=True,
    )
    return repeat(_once, client, call, what, progress)


def _once(client: PveClient, call: ApiCall, what: str, progress: Progress | None) -> Outcome:
    path, params = call.path, dict(call.params)
    if call.reread_digest:
        params["digest"] = digest(client, path)
    if call.rule is not None:
        place = firewall.place(client.get(path, doing=what), call.rule)
        if place is None and call.method == "DELETE":
            return Outcome(changed=False)
        if place is None:
            raise errors.StaleDigestError(
                "A rule of the container's firewall was changed by someone else meanwhile.",
                doing=what,
                where=path,
                answer=f"There is no rule any more: {call.rule}",
                remedy="Run the command again: it looks at the rules anew.",
            )
        path, params["digest"] = f"{path}/{place.position}", place.digest
    try:
        data = client.call(call.method, path, params, doing=what)
        result = client.wait(data, progress=progress, doing=what) if is_upid(data) else None
    except errors.AlreadyDoneError:
        return Outcome(changed=False)
    except errors.NoSuchGuestError:
        if call.method == "DELETE":
            return Outcome(changed=False)
        raise
    return Outcome(changed=True, warnings=result.warnings if result else ())


def digest(client: PveClient, path: str) -> str:
    """The digest of a container's configuration now.

    Args:
        client: The session.
        path: Any path below ``/nodes/{node}/lxc/{vmid}``.
    """
    base = "/".join(path.split("/")[:5])
    config: Mapping[str, Any] = client.get(f"{base}/config", doing="reading the configuration again")
    return str(config["digest"])


def _still_owned(client: PveClient, call: ApiCall, what: str) -> bool:
    base = "/".join(call.path.split("/")[:5])
    try:
        config = client.get(f"{base}/config", doing=what)
    except errors.NoSuchGuestError:
        return False
    if {OWNER_TAG, client_tag(str(call.owned_by))} <= split_tags(str(config.get("tags", ""))):
        return True
    raise errors.ForeignGuestError(
        f"The container at {base} does not carry the tags of client {call.owned_by} any more.",
        doing=what,
        where=base,
        remedy="Someone replaced it or removed its tags since the plan was made. Run the command again.",
    )


def apply_change(
    client: PveClient, change: Change, *, root: PveClient | None = None, progress: Progress | None = None
) -> Outcome:
    """Make one change.

    Args:
        client: The session of the API token.
        change: The change.
        root: A session of root@pam, for root steps where there is no SSH to the node.
        progress: Called with a short text while a task runs.

    Raises:
        RootOnlyError: The change has root steps, and no session of root@pam was given.
        PveError: A call was refused.
    """
    doing = f"{change.action.value} of {change.host} ({change.vmid} on {change.node})"
    outcomes = [execute(client, call, doing=doing, progress=progress) for call in change.calls]
    for step in change.root_steps:
        outcomes.append(_root_step(root, step, doing, progress))
    return Outcome(
        changed=any(outcome.changed for outcome in outcomes),
        warnings=tuple(line for outcome in outcomes for line in outcome.warnings),
    )


def _root_step(root: PveClient | None, step: RootStep, doing: str, progress: Progress | None) -> Outcome:
    call = step.call()
    if root is None or call is None:
        raise errors.RootOnlyError(
            "Only root on the node may do this; no API token can.",
            doing=doing,
            where=f"node {step.node}",
            answer=" ".join(step.argv()),
            remedy="Run the command above on the node as root and run again, or give SSH to the node"
            " (nodes.<name>.address).",
        )
    return execute(root, call, doing=doing, progress=progress)


def apply(
    client: PveClient,
    plan: Plan,
    phases: Iterable[Phase] = (Phase.CONFIGURE, Phase.ROOT, Phase.POWER),
    *,
    root: PveClient | None = None,
    report: Report | None = None,
) -> dict[int, Outcome]:
    """Make the changes of some phases: phases in order, containers at once, changes of one container in order.

    Where some containers fail, the others of that phase are finished before the error is raised.

    Returns:
        What happened, by VMID.

    Raises:
        PveError: One container failed: its error. Several: one error that names them all.
    """
    outcomes: dict[int, Outcome] = {}
    for phase in phases:
        by_guest: dict[int, list[Change]] = {}
        for change in plan.select(phase):
            by_guest.setdefault(change.vmid, []).append(change)
        with ThreadPoolExecutor(PARALLEL) as pool:
            results = list(pool.map(lambda changes: _guest(client, changes, root, report), by_guest.values()))
        failures = [result for result in results if isinstance(result, errors.PveError)]
        if failures:
            raise _together(failures, len(results))
        for vmid, result in zip(by_guest, results, strict=True):
            if isinstance(result, Outcome):
                earlier = outcomes.get(vmid, Outcome(changed=False))
                outcomes[vmid] = _merge(earlier, result)
    return outcomes


def _guest(
    client: PveClient, changes: list[Change], root: PveClient | None, report: Report | None
) -> Outcome | errors.PveError:
    outcome = Outcome(changed=False)
    for change in changes:
        tell: Progress = (lambda text, change=change: report(change, text)) if report else (lambda _: None)  # type: ignore[misc]
        tell("started")
        try:
            outcome = _merge(outcome, apply_change(client, change, root=root, progress=tell))
        except errors.PveError as error:
            tell("failed")
            return error
        tell("done")
    return outcome


def _merge(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(changed=one.changed or other.changed, warnings=(*one.warnings, *other.warnings))


def _together(failures: list[errors.PveError], total: int) -> errors.PveError:
    if len(failures) == 1:
        return failures[0]
    first = failures[0]
    return errors.PveError(
        f"{len(failures)} of {total} containers failed.",
        answer="\n".join(f"{e.doing}: {e.message} {e.answer or ''}".rstrip() for e in failures),
        remedy=first.remedy,
    )
