"""From an answer of the Proxmox VE API to the error that it means.

The API answers most wrong requests with status 500 and a text, so situations are told apart by their text. Texts
are those of Proxmox VE 9.2 (pve-container 6.1.10, libpve-access-control 9.1.1), tested against recorded answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from freehold.proxmox.errors import (
    AlreadyDoneError,
    AlreadyExistsError,
    AuthenticationError,
    ConfigBusyError,
    GuestExistsError,
    GuestLockedError,
    GuestRunningError,
    MissingPrivilegeError,
    NoSuchBridgeError,
    NoSuchDeviceError,
    NoSuchGuestError,
    NoSuchNodeError,
    NoSuchPoolError,
    NoSuchStorageError,
    NoSuchTemplateError,
    NotFoundError,
    NotImplementedByNodeError,
    ParameterError,
    ProtectedError,
    PveError,
    RootOnlyError,
    StaleDigestError,
    StorageFullError,
    TaskFailedError,
)

_PRIVILEGE = re.compile(r"Permission check failed \((?P<path>[^,()]*), (?P<privileges>[\w.|]+)\)")
_ROOT_ONLY = re.compile(r"only allowed for root@pam|Only root (?:may|can) |need proper ticket", re.IGNORECASE)
_LOCKED = re.compile(r"CT is locked \((?P<lock>[\w-]+)\)")

_RULES: tuple[tuple[re.Pattern[str], type[PveError], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind, message, remedy)
    for pattern, kind, message, remedy in (
        (
            r"(?:CT|VM) \d+ already exists",
            GuestExistsError,
            "The VMID is taken.",
            "Choose another range of ids in the stack file (vmids.first), or remove the guest that holds it.",
        ),
        (
            r"Configuration file 'nodes/.*' does not exist",
            NoSuchGuestError,
            "There is no such guest.",
            "Run `freehold plan` to see what exists.",
        ),
        (
            r"can't lock file .* got timeout|unable to (?:acquire|create) lock",
            ConfigBusyError,
            "Another task holds the container's configuration.",
            "Wait for the task to end (see the node's task list) and run the command again.",
        ),
        (
            r"detected modified configuration",
            StaleDigestError,
            "The configuration was changed by someone else since it was read.",
            "Run the command again: it reads the configuration anew.",
        ),
        (
            r"container is running|is only possible from a snapshot",
            GuestRunningError,
            "The container is running.",
            "Stop it first.",
        ),
        (
            r"(?:CT|VM) \d+ (?:already|not) running"
            r"|disk is already at specified size|is already a pool member|is not a pool member",
            AlreadyDoneError,
            "The container is already in that state.",
            "Nothing needs to be done.",
        ),
        (
            r"protection mode enabled",
            ProtectedError,
            "The container is protected against removal.",
            "Use `freehold down`, which lifts the protection after asking for the client's name.",
        ),
        (
            r"no space left|not enough (?:free )?space|insufficient free space|out of space|quota exceeded|ENOSPC",
            StorageFullError,
            "The storage has no space left.",
            "Free or add space on the storage, or name another one in the stack file (proxmox.storage).",
        ),
        (
            r"storage '[^']*' (?:does not exist|is disabled|does not (?:allow|support))|No such storage"
            r"|content type 'rootdir' is not available",
            NoSuchStorageError,
            "The storage cannot be used.",
            "Name a storage of the node that takes containers (proxmox.storage), or templates"
            " (proxmox.template_storage); `pvesm status` lists them.",
        ),
        (
            r"pool '[^']*' does not exist",
            NoSuchPoolError,
            "The resource pool does not exist.",
            "Run `freehold prepare`, which makes it.",
        ),
        (
            r"hostname lookup '[^']*' failed|no such cluster node",
            NoSuchNodeError,
            "There is no such node.",
            "Name a node of the cluster in the stack file (proxmox.node); `pvesh get /nodes` lists them.",
        ),
        (
            r"volume '[^']*vztmpl[^']*' does not exist|can't find file '[^']*\.tar|no such template"
            r"|file does not look like a template archive",
            NoSuchTemplateError,
            "The container template is not on the node.",
            "Run the command again with the node stage, or fetch it: `pveam download STORAGE TEMPLATE`.",
        ),
        (
            r"Device \S+ does not exist|Could not (?:get mode or device ID|find (?:major|device))",
            NoSuchDeviceError,
            "A device node that is to be passed does not exist on the node.",
            "Load its driver on the node (for NVIDIA: `nvidia-modprobe -c 0` with the number of each GPU, then `nvidia-modprobe -u -c 0`), and compare the GPUs of the stack file.",
        ),
        (
            r"bridge '[^']*' does not exist|no such bridge",
            NoSuchBridgeError,
            "The bridge does not exist on the node.",
            "Name a bridge of the node in the stack file (network.bridge); `ip -br link show type bridge` lists them.",
        ),
        (
            r"(?:role|user|pool|token) '[^']*' already exists|storage ID '[^']*' already defined|Token already exists",
            AlreadyExistsError,
            "It exists already.",
            "Nothing needs to be done.",
        ),
        (
            r"no such (?:user|token|task)|(?:role|user|group) '[^']*' does not exist",
            NotFoundError,
            "There is no such user, token, role or task.",
            "Run `freehold prepare`, which makes what Freehold needs.",
        ),
    )
)


def answer_text(reason: str, body: Any) -> tuple[str, dict[str, str]]:
    """The text of a refusal and its field errors.

    Read in this order, since nodes before Proxmox VE 8.4 send no ``message``: ``errors``, then ``message``, then
    the reason phrase of the status line.
    """
    fields: dict[str, str] = {}
    message = ""
    if isinstance(body, Mapping):
        errors = body.get("errors")
        if isinstance(errors, Mapping):
            fields = {str(name): " ".join(str(text).split()) for name, text in errors.items()}
        message = str(body.get("message") or "").strip()
    if fields:
        return "; ".join(f"{name}: {text}" for name, text in sorted(fields.items())), fields
    return message or reason.strip() or "no text", fields


def _by_text(text: str) -> PveError | None:
    if found := _LOCKED.search(text):
        lock = found["lock"]
        locked = GuestLockedError(
            f"The container is locked ({lock}).",
            remedy=f"Wait until the {lock} has ended and run the command again. If none runs, `pct unlock VMID` on"
            " the node removes the lock.",
        )
        locked.lock = lock
        return locked
    for pattern, kind, message, remedy in _RULES:
        if pattern.search(text):
            return kind(message, remedy=remedy)
    return None


def _by_permission(text: str) -> PveError:
    if _ROOT_ONLY.search(text):
        return RootOnlyError(
            "Only root@pam itself may do this; no API token can.",
            remedy="Give SSH to the node (nodes.<name>.address) or a root@pam password (proxmox.root_password_command).",
        )
    if found := _PRIVILEGE.search(text):
        names = tuple(found["privileges"].split("|"))
        missing = MissingPrivilegeError(
            f"The privilege {' or '.join(names)} on {found['path'] or 'a path that the API does not name'} is missing.",
            remedy="Run `freehold prepare`, which grants what Freehold needs.",
        )
        missing.privileges, missing.path = names, found["path"]
        return missing
    return _by_text(text) or MissingPrivilegeError(
        "A privilege is missing; the API does not say which.",
        remedy="Run `freehold check`, which names it, or `freehold prepare`, which grants it.",
    )


def _by_status(status: int, text: str, fields: Mapping[str, str]) -> PveError:
    if status == 401:
        return AuthenticationError(
            "The Proxmox VE API did not accept the token or password.",
            remedy="The API does not say whether it is wrong, unknown, disabled or expired: look at the token under"
            " Datacenter > Permissions > API Tokens, or run `freehold prepare` for a new one.",
        )
    if status == 403:
        return _by_permission(text)
    if status == 501:
        return NotImplementedByNodeError(
            "The node does not know this call.", remedy="Freehold needs Proxmox VE 8.2 or newer."
        )
    known = _by_text(text)
    if known is not None:
        return known
    if _ROOT_ONLY.search(text):
        return _by_permission(text)
    if fields or status == 400:
        refused = ParameterError(
            "The Proxmox VE API refused a parameter.",
            remedy="Correct the value in the stack file. A key that the node does not know needs a newer Proxmox VE.",
        )
        refused.fields = dict(fields)
        return refused
    return PveError(
        "The Proxmox VE API refused the call.", remedy="The node's journal (pvedaemon) may say more."
    )


def from_answer(status: int, reason: str, body: Any, *, doing: str, where: str) -> PveError:
    """The error that an answer of the API means.

    Args:
        status: HTTP status.
        reason: Reason phrase of the status line.
        body: Parsed JSON body, or its text.
        doing: What the call was for.
        where: Method and path.
    """
    text, fields = answer_text(reason, body)
    error = _by_status(status, text, fields)
    error.status, error.answer, error.doing, error.where = status, text, doing, where
    if error.remedy and (guest := re.search(r"/lxc/(\d+)", where)):
        error.remedy = error.remedy.replace("VMID", guest[1])
    return error


def from_task(text: str, *, upid: str, log: tuple[str, ...], doing: str, where: str) -> PveError:
    """The error that the exit status of a failed task means; a text that nothing knows is a `TaskFailedError`."""
    error: PveError
    if "Permission check failed" in text:
        error = _by_permission(text)
    else:
        # The exit status of a cut-off task can be vague ("job errors"); its log then names the cause.
        error = _by_text(text) or _by_text("\n".join(log)) or TaskFailedError("A task of the node failed.")
    if isinstance(error, TaskFailedError):
        error.upid, error.log = upid, log
        error.remedy = "Read the log below, remove the cause, and run the command again."
    tail = "\n".join(log[-12:])
    error.answer = f"{text}\n{tail}" if tail else text
    error.doing, error.where = doing, where
    return error
