"""The one family of errors that a user of Freehold can meet.

Each error says what was being done, on what, what answered, and what to do next. The command line turns it
into one panel and into an exit code (see ``docs/reference/exit-codes.md``); a traceback reaches a user only
with ``--debug``.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the ``freehold`` command."""

    OK = 0
    """Done, or nothing to do."""
    FAILED = 1
    """Something failed; run the same command again after the remedy."""
    BAD_INPUT = 2
    """The input is wrong; nothing was touched."""
    PENDING = 3
    """Something is pending: changes (``plan --detailed-exitcode``), or language models that fit nowhere (``size``)."""


class FreeholdError(Exception):
    """A failure with its cause and its remedy.

    Args:
        message: What went wrong, in one sentence.
        doing: What Freehold was doing, such as ``"creating container 1020 on node pve"``.
        answer: What the other side answered (API text, stderr, task log), verbatim and free of secrets.
        remedy: What the user can do next.
        where: The place of the cause: ``file:line``, key path, API path or host.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        doing: str | None = None,
        answer: str | None = None,
        remedy: str | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.doing = doing
        self.answer = answer
        self.remedy = remedy
        self.where = where

    def as_dict(self) -> dict[str, str]:
        """The error as plain data, for ``--json`` and for event files."""
        fields = {
            "error": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "doing": self.doing,
            "answer": self.answer,
            "remedy": self.remedy,
        }
        return {key: value for key, value in fields.items() if value}


class BadInputError(FreeholdError):
    """The input is wrong: nothing was touched."""

    exit_code = ExitCode.BAD_INPUT
