"""What one look at a node, a stack or a mirror found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one look found."""

    about: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding as plain data."""
        return {"about": self.about, "status": self.status, "detail": self.detail, "remedy": self.remedy}
