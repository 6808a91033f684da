"""What the client makes of every refusal that was recorded from Proxmox VE 9.2."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from freehold.proxmox import answers, errors

from .schema_check import DATA

RECORDED = json.loads((DATA / "recordings.json").read_text(encoding="utf-8"))

KINDS: tuple[tuple[str, type[errors.PveError]], ...] = (
    (r"403 .*only allowed for root@pam", errors.RootOnlyError),
    (r"403 .*need proper ticket", errors.RootOnlyError),
    (r"403 .*pool 'nope' does not exist", errors.NoSuchPoolError),
    (r"403 ", errors.MissingPrivilegeError),
    (r"401 ", errors.AuthenticationError),
    (r"501 ", errors.NotImplementedByNodeError),
    (r"400 .*Only root may (use|set) this option", errors.RootOnlyError),
    (r"400 vmid: VM 100 already exists", errors.GuestExistsError),
    (r"400 storage: No such storage", errors.NoSuchStorageError),
    (r"400 storage: storage '\w+' does not support container", errors.NoSuchStorageError),
    (r"400 template: no such template", errors.NoSuchTemplateError),
    (r"400 tokenid: Token already exists", errors.AlreadyExistsError),
    (r"400 upid: no such task", errors.NotFoundError),
    (r"400 ", errors.ParameterError),
    (r"500 mp: property is missing", errors.ParameterError),
    (r"500 Only root can pass arbitrary", errors.RootOnlyError),
    (r"500 CT \d+ already exists", errors.GuestExistsError),
    (r"500 Configuration file 'nodes/", errors.NoSuchGuestError),
    (r"500 CT is locked", errors.GuestLockedError),
    (r"500 can't lock file", errors.ConfigBusyError),
    (r"500 .*detected modified configuration", errors.StaleDigestError),
    (r"500 .*container is running|500 Full clone of a running", errors.GuestRunningError),
    (r"500 (CT|VM) 100 (already|not) running", errors.AlreadyDoneError),
    (r"500 disk is already at specified size", errors.AlreadyDoneError),
    (r"500 .*is (already|not) a pool member", errors.AlreadyDoneError),
    (r"500 .*protection mode enabled", errors.ProtectedError),
    (r"500 storage '", errors.NoSuchStorageError),
    (
        r"500 (delete pool failed: )?pool 'nope|500 delete pool failed: pool 'demo' does not",
        errors.NoSuchPoolError,
    ),
    (r"500 .*parent 'none' of pool 'none/sub' does not exist", errors.NoSuchPoolError),
    (r"500 hostname lookup", errors.NoSuchNodeError),
    (r"500 Device /dev/none0 does not exist", errors.NoSuchDeviceError),
    (r"500 create (pool|role|user|storage) failed: .*already", errors.AlreadyExistsError),
    (r"500 no such (user|token)", errors.NotFoundError),
    (
        r"500 (ACL update failed: |delete role failed: |delete group failed: )?(role|user|group) '",
        errors.NotFoundError,
    ),
    (r"500 delete storage failed: storage 'extra' does not exist", errors.NoSuchStorageError),
)
"""By ``status text``, the first that fits; everything else is a plain `PveError`."""


def refusals() -> list[Any]:
    """One case per different refusal: id of the first step that shows it, status, reason, body."""
    seen: dict[str, Any] = {}
    for scenario in RECORDED:
        for step in scenario["steps"]:
            if step["status"] >= 400:
                key = json.dumps([step["status"], step["reason"], step["body"]], sort_keys=True)
                seen.setdefault(key, pytest.param(step, id=step["id"]))
    return list(seen.values())


def expected(status: int, text: str) -> type[errors.PveError]:
    for pattern, kind in KINDS:
        if re.match(pattern, f"{status} {text}"):
            return kind
    return errors.PveError


@pytest.mark.parametrize("step", refusals())
def test_every_recorded_refusal_becomes_its_own_error(step: dict[str, Any]) -> None:
    body = step["body"]
    error = answers.from_answer(step["status"], step["reason"], body, doing="testing", where="X /y")
    text = str(error.answer)
    assert type(error) is expected(step["status"], text)
    assert error.status == step["status"]
    assert error.remedy
    fields = body.get("errors") if isinstance(body, dict) else None
    if fields:
        assert all(name in text for name in fields)
        if isinstance(error, errors.ParameterError):
            assert set(error.fields) == set(fields)
    else:
        # Nodes before 8.4 send no message: the reason phrase alone must mean the same.
        bare = answers.from_answer(step["status"], step["reason"], "", doing="testing", where="X /y")
        assert type(bare) is type(error)


@pytest.mark.parametrize("step", [p for p in refusals() if p.values[0]["status"] == 403])
def test_a_missing_privilege_is_named_with_its_path(step: dict[str, Any]) -> None:
    error = answers.from_answer(403, step["reason"], step["body"], doing="testing", where="X /y")
    named = re.search(r"\((/?[\w/-]*), ([A-Z][\w.|]+)\)", step["reason"])
    if named:
        assert isinstance(error, errors.MissingPrivilegeError)
        assert error.path == named[1]
        assert "|".join(error.privileges) == named[2]
        assert all(privilege in error.message for privilege in error.privileges)


TASKS: tuple[tuple[str, type[errors.PveError]], ...] = (
    ("volume 'local:vztmpl", errors.NoSuchTemplateError),
    ("can't find file 'none.tar.zst'", errors.NoSuchTemplateError),
    ("does not look like a template archive", errors.NoSuchTemplateError),
    ("CT is locked", errors.GuestLockedError),
    ("content type 'rootdir' is not available", errors.NoSuchStorageError),
)


def failed_tasks() -> list[Any]:
    """Exit status of every recorded task that failed."""
    texts: dict[str, Any] = {}
    for scenario in RECORDED:
        for step in scenario["steps"]:
            data = step["body"].get("data") if isinstance(step["body"], dict) else None
            if isinstance(data, dict) and "exitstatus" in data and step["path"].endswith("/status"):
                text = data["exitstatus"]
                if text != "OK" and not text.startswith("WARNINGS"):
                    texts.setdefault(text, pytest.param(text, id=step["id"]))
    return list(texts.values())


@pytest.mark.parametrize("text", failed_tasks())
def test_every_recorded_task_failure_becomes_its_own_error(text: str) -> None:
    error = answers.from_task(
        text, upid="UPID:pve:x", log=("one", "two"), doing="testing", where="UPID:pve:x"
    )
    kind = next((kind for part, kind in TASKS if part in text), errors.TaskFailedError)
    if "startup for container" in text or "directory '/srv/none'" in text:
        kind = errors.TaskFailedError
    assert isinstance(error, kind)
    assert text in str(error.answer)
    assert "two" in str(error.answer)


@pytest.mark.parametrize(
    "text",
    [
        "unable to create CT 101 - unable to create image: No space left on device",
        "lvcreate 'pve/vm-101-disk-0' error:   Insufficient free space: 1 extents needed",
        "zfs error: cannot create 'rpool/data/subvol-101-disk-0': out of space",
    ],
)
def test_a_full_storage_is_told_apart(text: str) -> None:
    error = answers.from_task(text, upid="u", log=(), doing="testing", where="u")
    assert isinstance(error, errors.StorageFullError)
