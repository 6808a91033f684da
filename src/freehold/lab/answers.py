"""Errors as the Proxmox VE API answers them (part of a stand-in of Proxmox VE, for development).

Source: ``PVE::Exception`` and the recorded answers under ``tests/contract/pve``.
"""

from __future__ import annotations

from collections.abc import Mapping

PARAMETERS = "Parameter verification failed.\n"


class PveError(Exception):
    """An answer other than 200: the status, the text with its line break, and errors by parameter name."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message.rstrip("\n"))
        self.status = status
        self.message = message if message.endswith("\n") else message + "\n"
        self.errors = dict(errors or {})

    def task_text(self) -> str:
        """The text with which a task ends when this error ends it."""
        text = self.message
        for name, error in sorted(self.errors.items()):
            text += f"{name}: {error}\n"
        return text.rstrip("\n")


class BareError(Exception):
    """An answer without a body: 401 of the HTTP layer, refused uploads, unknown HTTP methods."""

    def __init__(self, status: int, reason: str, body: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.body = body


class ConnectionDroppedError(Exception):
    """The real server closes the connection here without an answer."""


def failed(message: str) -> PveError:
    """A plain ``die``: status 500."""
    return PveError(500, message)


def bad_parameters(errors: Mapping[str, str]) -> PveError:
    """``raise_param_exc``: status 400 with a text for each parameter."""
    return PveError(400, PARAMETERS, errors)


def denied(what: str | None = None) -> PveError:
    """``raise_perm_exc``: status 403."""
    return PveError(403, "Permission check failed" + (f" ({what})" if what else ""))
