"""What the Proxmox VE API refuses, as errors of Freehold's family; `freehold.proxmox.answers` tells which is meant."""

from __future__ import annotations

from collections.abc import Mapping

from freehold.errors import BadInputError, FreeholdError


class PveError(FreeholdError):
    """The Proxmox VE API refused a call, or a task of it failed.

    Attributes:
        status: HTTP status of the answer; ``None`` where there was no answer or a task failed.
    """

    status: int | None = None


class ApiUnreachableError(PveError):
    """The API could not be reached, or went away before it answered.

    Attributes:
        sent: Whether the request may have reached the server, so that its effect is unknown.
    """

    sent = False


class CertificateError(PveError):
    """The API showed another certificate than the one that is trusted.

    Attributes:
        expected: SHA-256 fingerprint that the client trusts, or ``None`` where a CA file is used.
        got: SHA-256 fingerprint of the certificate that was shown, or ``None`` where it could not be read.
    """

    expected: str | None = None
    got: str | None = None


class AuthenticationError(PveError):
    """The token or the password was not accepted."""


class MissingPrivilegeError(PveError):
    """A privilege is missing.

    Attributes:
        privileges: Names, any one of which would do; empty where the API names none.
        path: Path of the access control list that needs it; empty where the API names none.
    """

    privileges: tuple[str, ...] = ()
    path: str = ""


class RootOnlyError(MissingPrivilegeError):
    """Only a session of root@pam may do this; no API token can."""


class ParameterError(PveError, BadInputError):
    """A parameter was refused.

    Attributes:
        fields: Text per parameter.
    """

    fields: Mapping[str, str] = {}


class GuestExistsError(PveError):
    """The VMID is taken."""


class NoSuchGuestError(PveError):
    """There is no guest with this VMID."""


class GuestLockedError(PveError):
    """The guest is locked by a backup, a snapshot, a creation or another task.

    Attributes:
        lock: Name of the lock, such as ``backup``; ``config`` where another task holds the configuration.
    """

    lock = ""


class ConfigBusyError(GuestLockedError):
    """Another task holds the configuration file; nothing was written, so the call may be repeated."""

    lock = "config"


class ProtectedError(PveError):
    """The guest or its volume is protected (``protection: 1``)."""


class AlreadyDoneError(PveError):
    """The guest is already in the state that was asked for (running, stopped, of that size, in that pool)."""


class GuestRunningError(PveError):
    """The guest runs, and the call needs it stopped."""


class StaleDigestError(PveError):
    """The configuration changed since it was read."""


class NoSuchStorageError(PveError):
    """The storage does not exist, is disabled, or does not take this kind of content."""


class StorageFullError(PveError):
    """The storage has no space left."""


class NoSuchPoolError(PveError):
    """The resource pool does not exist."""


class NoSuchNodeError(PveError):
    """The node does not exist."""


class NoSuchTemplateError(PveError):
    """The container template is not there."""


class NoSuchDeviceError(PveError):
    """A device node that is to be passed does not exist on the node."""


class NoSuchBridgeError(PveError):
    """The bridge of an interface does not exist on the node."""


class AlreadyExistsError(PveError):
    """A role, user, token or pool of that name exists."""


class NotFoundError(PveError):
    """A role, user or token of that name does not exist."""


class NotImplementedByNodeError(PveError):
    """The node does not know this call."""


class TaskFailedError(PveError):
    """A task ended with an error.

    Attributes:
        upid: Id of the task.
        log: Its last lines.
    """

    upid = ""
    log: tuple[str, ...] = ()


class TaskTimeoutError(PveError):
    """A task did not end in time; it may still be running.

    Attributes:
        upid: Id of the task.
    """

    upid = ""


class ForeignGuestError(PveError, BadInputError):
    """A guest that Freehold did not create holds a VMID, name or address that is wanted."""


class AmbiguousStateError(PveError):
    """What was observed contradicts itself, so nothing is planned on it."""
