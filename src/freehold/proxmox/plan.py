"""The plan: what would change, and by which calls. Nothing else compares, and nothing is executed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from freehold.proxmox import desired, firewall, propstrings
from freehold.proxmox.changes import Action, ApiCall, Change, Effect, FieldDiff, Phase, Plan, RootStep
from freehold.proxmox.diff import Difference, compare
from freehold.proxmox.observe import Observed, ObservedGuest
from freehold.proxmox.spec import ContainerSpec

STOP_TIMEOUT = 60
"""Seconds that a container gets to shut down before it is stopped."""
REBOOT_TIMEOUT = 120
"""Seconds that a container gets to shut down before a restart fails."""

_ORDER = tuple(Phase)


class _MakeChange(Protocol):
    def __call__(self, action: Action, phase: Phase, **more: object) -> Change: ...


def plan(specs: Sequence[ContainerSpec], observed: Observed, *, prune: bool = False) -> Plan:
    """What has to change so that the client's containers are as specified.

    Args:
        specs: The containers as they should be, in start order.
        observed: What is there.
        prune: Destroy the client's containers that no specification names, and detach volumes that none names.
            Without it they stay, and a note says so.
    """
    changes: list[Change] = []
    notes: list[str] = []
    wanted = {spec.vmid for spec in specs}
    for extra in (guest for vmid, guest in observed.guests.items() if vmid not in wanted):
        if prune:
            changes.append(_destroy(extra, observed.client))
        else:
            notes.append(
                f"{extra.name}: container {extra.vmid} is not in the stack any more and stays; `--prune` destroys it."
            )
    for spec in specs:
        if guest := observed.guests.get(spec.vmid):
            difference = compare(spec, guest, prune=prune)
            made = [*_update(spec, guest, difference), *_firewall(spec, guest, notes)]
            notes += difference.notes
            if guest.lock and any(change.actionable for change in made):
                notes.append(
                    f"{spec.hostname}: the container is locked ({guest.lock}); changes must wait for that."
                )
            changes += made
        else:
            if left := observed.unfinished.get(spec.vmid):
                changes.append(_remove_unfinished(left, spec.hostname))
            changes += _create(spec)
    return Plan(client=observed.client, changes=_sorted(changes), notes=tuple(notes))


def plan_down(observed: Observed, vmids: Iterable[int] | None = None) -> Plan:
    """What destroys the client's containers, or those of the given VMIDs, with their volumes."""
    chosen = set(observed.guests) | set(observed.unfinished) if vmids is None else set(vmids)
    changes = [_remove_unfinished(g, g.name) for vmid, g in observed.unfinished.items() if vmid in chosen]
    changes += [_destroy(g, observed.client) for vmid, g in observed.guests.items() if vmid in chosen]
    return Plan(client=observed.client, changes=_sorted(changes))


def _sorted(changes: list[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: _ORDER.index(change.phase)))


def _path(node: str, vmid: int, *rest: str) -> str:
    return "/".join((f"/nodes/{node}/lxc/{vmid}", *rest))


def _maker(node: str, spec: ContainerSpec) -> _MakeChange:
    def change(action: Action, phase: Phase, **more: object) -> Change:
        base = {"action": action, "phase": phase, "node": node, "vmid": spec.vmid, "host": spec.hostname}
        return Change.model_validate({**base, **more})

    return change


def _create(spec: ContainerSpec) -> Iterator[Change]:
    change = _maker(spec.node, spec)
    params = desired.create_params(spec)
    hidden = {"vmid", "ssh-public-keys"}
    diffs = [FieldDiff(field=k, old=None, new=str(v)) for k, v in params.items() if k not in hidden]
    calls = [ApiCall(method="POST", path=f"/nodes/{spec.node}/lxc", params=params)]
    if spec.firewall:
        # Before the first start: a container is never there without its rules.
        found = firewall.compare(spec.firewall, None)
        diffs += found.diffs
        calls += firewall.calls(_path(spec.node, spec.vmid, "firewall"), found, None)
    yield change(Action.CREATE, Phase.CONFIGURE, diffs=tuple(diffs), calls=tuple(calls))
    options = _root_options(spec)
    labels = {f"dev{index}": device.label for index, device in enumerate(spec.devices)}
    if options:
        yield change(
            Action.UPDATE,
            Phase.ROOT,
            diffs=tuple(FieldDiff(field=k, old=None, new=v, about=labels.get(k)) for k, v in options.items()),
            root_steps=(RootStep(node=spec.node, vmid=spec.vmid, options=options),),
        )
    if spec.started:
        start = ApiCall(method="POST", path=_path(spec.node, spec.vmid, "status", "start"))
        yield change(Action.START, Phase.POWER, calls=(start,))


def _root_options(spec: ContainerSpec) -> dict[str, str]:
    """What a new container gets from root."""
    options: dict[str, str] = {}
    wanted = desired.features(spec.features)
    if wanted != {"nesting": "1"}:
        options["features"] = propstrings.render("features", wanted)
    for index, mount in enumerate(spec.mounts, start=len(spec.volumes)):
        options[f"mp{index}"] = propstrings.render(f"mp{index}", desired.bind(mount))
    for index, device in enumerate(spec.devices):
        options[f"dev{index}"] = propstrings.render(f"dev{index}", desired.device(device))
    return options


def _update(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> Iterator[Change]:
    change = _maker(guest.node, spec)
    if found.impossible:
        yield change(Action.UPDATE, Phase.CONFIGURE, diffs=tuple(found.impossible))
    # Disks grow first: a change of a mount point's options repeats the size, and must repeat the new one.
    if found.resizes:
        yield change(
            Action.RESIZE,
            Phase.CONFIGURE,
            diffs=tuple(found.resizes.values()),
            calls=tuple(_resize_calls(guest, found)),
        )
    calls = list(_config_calls(guest, found))
    if found.pool:
        params: dict[str, str | int] = {"poolid": str(found.pool.new), "vms": guest.vmid}
        calls.append(ApiCall(method="PUT", path="/pools", params=params))
    if calls:
        diffs = (*found.token.diffs, *((found.pool,) if found.pool else ()))
        yield change(Action.UPDATE, Phase.CONFIGURE, diffs=diffs, calls=tuple(calls))
    if found.root:
        yield change(
            Action.UPDATE,
            Phase.ROOT,
            diffs=tuple(found.root.diffs),
            root_steps=tuple(_root_steps(guest, found)),
        )
    yield from _power(spec, guest, found, change)


def _firewall(spec: ContainerSpec, guest: ObservedGuest, notes: list[str]) -> Iterator[Change]:
    if spec.firewall is None:
        return
    found = firewall.compare(spec.firewall, guest.firewall)
    notes += [
        f"{spec.hostname}: a rule of Proxmox VE's firewall is not Freehold's and stays: {firewall.text(rule)}"
        for rule in found.foreign
    ]
    if found.diffs:
        calls = firewall.calls(_path(guest.node, guest.vmid, "firewall"), found, guest.firewall)
        change = _maker(guest.node, spec)
        yield change(Action.UPDATE, Phase.CONFIGURE, diffs=tuple(found.diffs), calls=tuple(calls))


def _config_calls(guest: ObservedGuest, found: Difference) -> Iterator[ApiCall]:
    writes = found.token
    if not writes:
        return
    path = _path(guest.node, guest.vmid, "config")
    params: dict[str, str | int] = dict(writes.options)
    if writes.delete:
        params["delete"] = ",".join(writes.delete)
    guarded = _Guarded(guest, path, written=bool(found.resizes))
    protected = propstrings.truth(guest.config.get("protection"))
    detaches = any(propstrings.base_name(option) == "mp" for option in writes.delete)
    if not (protected and detaches):
        yield guarded.put(params)
        return
    # A protected container gives no mount point away, so the protection is lifted around the change.
    wanted = params.pop("protection", "1")
    yield guarded.put({"protection": 0})
    yield guarded.put(params)
    if wanted != "0":
        yield guarded.put({"protection": 1})


def _resize_calls(guest: ObservedGuest, found: Difference) -> Iterator[ApiCall]:
    writes = _Guarded(guest, _path(guest.node, guest.vmid, "resize"))
    for disk, diff in found.resizes.items():
        yield writes.put({"disk": disk, "size": str(diff.new)})


class _Guarded:
    """Writes of one container: the first carries the digest of the plan, the others one that is read again."""

    def __init__(self, guest: ObservedGuest, path: str, *, written: bool = False) -> None:
        self._digest, self._path, self._written = guest.digest, path, written

    def put(self, params: dict[str, str | int]) -> ApiCall:
        """The next write."""
        if self._written:
            return ApiCall(method="PUT", path=self._path, params=params, reread_digest=True)
        self._written = True
        return ApiCall(method="PUT", path=self._path, params={**params, "digest": self._digest})


def _root_steps(guest: ObservedGuest, found: Difference) -> Iterator[RootStep]:
    if found.revert:
        yield RootStep(node=guest.node, vmid=guest.vmid, revert=tuple(found.revert))
    yield RootStep(
        node=guest.node, vmid=guest.vmid, options=found.root.options, delete=tuple(found.root.delete)
    )


def _power(
    spec: ContainerSpec, guest: ObservedGuest, found: Difference, change: _MakeChange
) -> Iterator[Change]:
    def power(what: str, **params: int) -> tuple[ApiCall, ...]:
        return (
            ApiCall(method="POST", path=_path(guest.node, guest.vmid, "status", what), params=dict(params)),
        )

    if not guest.running:
        if spec.started:
            yield change(Action.START, Phase.POWER, calls=power("start"))
        return
    if not spec.started:
        calls = power("shutdown", timeout=STOP_TIMEOUT, forceStop=1)
        yield change(Action.STOP, Phase.POWER, calls=calls)
        return
    waiting = [k for k in guest.pending if desired.MANAGED.match(k) and k not in found.touched]
    if found.needs_restart or waiting:
        diffs = [
            FieldDiff(field=k, old=guest.current.get(k), new=guest.config.get(k), effect=Effect.RESTART)
            for k in waiting
        ]
        yield change(
            Action.RESTART,
            Phase.POWER,
            reason="changes take effect at the next start",
            diffs=tuple(diffs),
            calls=power("reboot", timeout=REBOOT_TIMEOUT),
        )


def _destroy(guest: ObservedGuest, owner: str) -> Change:
    calls: list[ApiCall] = []
    if propstrings.truth(guest.config.get("protection")):
        params: dict[str, str | int] = {"protection": 0, "digest": guest.digest}
        calls.append(ApiCall(method="PUT", path=_path(guest.node, guest.vmid, "config"), params=params))
    if guest.running:
        calls.append(
            ApiCall(method="POST", path=_path(guest.node, guest.vmid, "status", "stop"), owned_by=owner)
        )
    # Never `destroy-unreferenced-disks`: a volume that the configuration does not name is not known to be ours.
    calls.append(
        ApiCall(method="DELETE", path=_path(guest.node, guest.vmid), params={"purge": 1}, owned_by=owner)
    )
    lost = [option for option in guest.config if propstrings.base_name(option) in {"rootfs", "mp", "unused"}]
    return Change(
        action=Action.DESTROY,
        phase=Phase.CONFIGURE,
        node=guest.node,
        vmid=guest.vmid,
        host=guest.name,
        diffs=tuple(FieldDiff(field=option, old=guest.config[option], new=None) for option in sorted(lost)),
        calls=tuple(calls),
    )


def _remove_unfinished(guest: ObservedGuest, host: str) -> Change:
    step = {"node": guest.node, "vmid": guest.vmid}
    return Change(
        action=Action.DESTROY,
        phase=Phase.UNLOCK,
        host=host,
        reason=f"an earlier run was cut off and left it locked ({guest.lock})",
        root_steps=(
            RootStep.model_validate({**step, "command": "unlock"}),
            RootStep.model_validate({**step, "command": "destroy"}),
        ),
        node=guest.node,
        vmid=guest.vmid,
    )
