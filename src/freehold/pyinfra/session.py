"""What all ``@pve`` hosts of a pyinfra process share: one session with the API, and one plan.

The token's secret stays in the session and out of pyinfra's host data, which pyinfra prints when it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from gevent.lock import RLock

from freehold.errors import FreeholdError
from freehold.proxmox.changes import Phase, Plan
from freehold.proxmox.client import PveClient


@dataclass
class Session:
    """How to get at client and plan; each is made once, when the first host asks for it."""

    connect: Callable[[], PveClient]
    make_plan: Callable[[], Plan]
    phases: tuple[Phase, ...] = (Phase.UNLOCK, Phase.ROOT)
    """Phases whose root steps ``deploys/root_steps.py`` does."""

    def __post_init__(self) -> None:
        self._lock = RLock()

    @cached_property
    def _client(self) -> PveClient:
        return self.connect()

    @cached_property
    def _plan(self) -> Plan:
        return self.make_plan()

    @property
    def client(self) -> PveClient:
        """The session with the API."""
        with self._lock:
            return self._client

    @property
    def plan(self) -> Plan:
        """What has to change."""
        with self._lock:
            return self._plan


_session: Session | None = None


def share(session: Session | None) -> None:
    """Let all hosts of this process use ``session``."""
    global _session
    _session = session


def current() -> Session:
    """The session of this process.

    Raises:
        FreeholdError: There is none, because the inventory is not Freehold's.
    """
    if _session is None:
        raise FreeholdError(
            "There is no session with the Proxmox VE API",
            remedy="Use deploys/inventory.py as pyinfra's inventory.",
        )
    return _session
