"""What a plan is made of: typed changes, each with the calls that make it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Action(StrEnum):
    """What a change does."""

    CREATE = "create"
    UPDATE = "update"
    RESIZE = "resize"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    DESTROY = "destroy"


class Effect(StrEnum):
    """When a change takes effect."""

    LIVE = "live"
    RESTART = "restart"
    IMPOSSIBLE = "impossible"


class Phase(StrEnum):
    """When a change is made; phases follow each other in this order."""

    UNLOCK = "unlock"
    """By root on the node: remove a container whose creation was cut off by a crash of the node."""
    CONFIGURE = "configure"
    """By the API token."""
    ROOT = "root"
    """By root on the node, or by a session of root@pam."""
    POWER = "power"
    """By the API token: start, restart, stop."""


class FieldDiff(_Value):
    """One option as it is and as it should be; ``None`` is unset."""

    field: str
    old: str | None
    new: str | None
    effect: Effect = Effect.LIVE
    remedy: str | None = None
    """What to do, where the change is impossible in place."""
    about: str | None = None
    """What the new value stands for, where it does not say it: which GPU."""


class ApiCall(_Value):
    """One call of the API."""

    method: Literal["POST", "PUT", "DELETE"]
    path: str
    params: dict[str, str | int] = {}
    reread_digest: bool = False
    """The digest is read right before the call, since an earlier call of the same change altered it."""
    owned_by: str | None = None
    """The call is made only if the container still carries the tags of this client."""
    rule: str | None = None
    """The call is for this rule of the firewall (`firewall.text`), one of those that ``path`` lists: its position and the digest
    are read right before the call, since an earlier call of the same change altered both."""


class RootStep(_Value):
    """Something that no API token may do: one ``pct`` command on the node, or the same as a call by root@pam."""

    node: str
    vmid: int
    command: Literal["set", "unlock", "destroy"] = "set"
    options: dict[str, str] = {}
    delete: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()

    def params(self) -> dict[str, str | int]:
        """Parameters of the call and options of the command, without the digest."""
        params: dict[str, str | int] = dict(sorted(self.options.items()))
        if self.delete:
            params["delete"] = ",".join(self.delete)
        if self.revert:
            params["revert"] = ",".join(self.revert)
        return params

    def argv(self, digest: str | None = None) -> list[str]:
        """The command on the node. Read the digest after the token's own writes (`apply.digest`)."""
        argv = ["pct", self.command, str(self.vmid)]
        for name, value in self.params().items():
            argv += [f"--{name}", str(value)]
        if self.command == "destroy":
            argv += ["--purge", "1"]
        if digest and self.command == "set":
            argv += ["--digest", digest]
        return argv

    def call(self) -> ApiCall | None:
        """The same as a call; ``None`` where the API can not do it (nothing removes a lock there)."""
        if self.command != "set":
            return None
        path = f"/nodes/{self.node}/lxc/{self.vmid}/config"
        return ApiCall(method="PUT", path=path, params=self.params(), reread_digest=True)


class Change(_Value):
    """One change of one container, made in one phase."""

    action: Action
    phase: Phase
    node: str
    vmid: int
    host: str
    """Host name of the container."""
    reason: str = ""
    diffs: tuple[FieldDiff, ...] = ()
    calls: tuple[ApiCall, ...] = ()
    root_steps: tuple[RootStep, ...] = ()

    @property
    def effect(self) -> Effect:
        """The heaviest effect of its parts."""
        effects = {diff.effect for diff in self.diffs}
        order = (Effect.IMPOSSIBLE, Effect.RESTART)
        return next((effect for effect in order if effect in effects), Effect.LIVE)

    @property
    def actionable(self) -> bool:
        """Whether there is anything to execute."""
        return bool(self.calls or self.root_steps)


class Plan(_Value):
    """Everything that would change, in the order in which it is made."""

    client: str
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    """What stays as it is although the stack does not ask for it, and why."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to execute."""
        return not any(change.actionable for change in self.changes)

    @property
    def impossible(self) -> tuple[tuple[Change, FieldDiff], ...]:
        """What cannot be changed in place, with its remedy."""
        return tuple(
            (change, diff)
            for change in self.changes
            for diff in change.diffs
            if diff.effect is Effect.IMPOSSIBLE
        )

    def select(self, phase: Phase | None = None, vmid: int | None = None) -> tuple[Change, ...]:
        """The actionable changes of one phase, of one container, or of both."""
        return tuple(
            change
            for change in self.changes
            if change.actionable and phase in {None, change.phase} and vmid in {None, change.vmid}
        )

    def root_steps(self, phase: Phase = Phase.ROOT) -> tuple[RootStep, ...]:
        """The root steps of a phase, in order."""
        return tuple(step for change in self.select(phase) for step in change.root_steps)

    def render(self) -> list[dict[str, Any]]:
        """The plan as rows for a table: host, vmid, action, phase, effect, reason, and lines of ``- old`` and ``+ new``."""
        return [
            {
                "host": change.host,
                "vmid": change.vmid,
                "node": change.node,
                "action": change.action.value,
                "phase": change.phase.value,
                "effect": change.effect.value,
                "reason": change.reason,
                "diffs": [diff.model_dump(mode="json") for diff in change.diffs],
                "root": [" ".join(step.argv()) for step in change.root_steps],
            }
            for change in self.changes
        ]
