"""One container as it is against one as it should be: the only place where the two are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from freehold.proxmox import desired, propstrings
from freehold.proxmox.changes import Effect, FieldDiff
from freehold.proxmox.observe import ObservedGuest
from freehold.proxmox.spec import ContainerSpec, VolumeSpec

Properties = dict[str, str]


@dataclass
class Writes:
    """Options that one caller sets and removes, with the differences that they make."""

    options: dict[str, str] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    diffs: list[FieldDiff] = field(default_factory=list)

    def put(
        self,
        option: str,
        old: str | None,
        new: str,
        effect: Effect = Effect.LIVE,
        about: str | None = None,
    ) -> None:
        """Set an option."""
        self.options[option] = new
        self.diffs.append(FieldDiff(field=option, old=old, new=new, effect=effect, about=about))

    def drop(self, option: str, old: str | None, effect: Effect = Effect.LIVE) -> None:
        """Remove an option."""
        self.delete.append(option)
        self.diffs.append(FieldDiff(field=option, old=old, new=None, effect=effect))

    def __bool__(self) -> bool:
        return bool(self.options or self.delete)


@dataclass
class Difference:
    """Everything in which a container differs from its specification."""

    token: Writes = field(default_factory=Writes)
    root: Writes = field(default_factory=Writes)
    revert: list[str] = field(default_factory=list)
    """Pending changes to be withdrawn first: a pending value outlives a pending removal."""
    resizes: dict[str, FieldDiff] = field(default_factory=dict)
    """By disk; the new size is in GiB (``12G``)."""
    impossible: list[FieldDiff] = field(default_factory=list)
    pool: FieldDiff | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def needs_restart(self) -> bool:
        """Whether a running container takes something over only at its next start."""
        return any(diff.effect is Effect.RESTART for diff in (*self.token.diffs, *self.root.diffs))

    @property
    def touched(self) -> frozenset[str]:
        """Options that are written."""
        return frozenset((*self.token.options, *self.token.delete, *self.root.options, *self.root.delete))


def compare(spec: ContainerSpec, guest: ObservedGuest, *, prune: bool = False) -> Difference:
    """Compare a container with its specification.

    Args:
        spec: The container as it should be.
        guest: The container as it is.
        prune: Detach volumes that the specification does not name; they stay on the storage as ``unused[n]``.
    """
    found = Difference()
    _scalars(spec, guest, found)
    _features(spec, guest, found)
    _interfaces(spec, guest, found)
    _rootfs(spec, guest, found)
    _mounts(spec, guest, found, prune=prune)
    _devices(spec, guest, found)
    _fixed(spec, guest, found)
    return found


def _later(guest: ObservedGuest) -> Effect:
    return Effect.RESTART if guest.running else Effect.LIVE


def _scalars(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    for option, new in desired.scalars(spec, guest.config).items():
        old = desired.canonical(option, guest.config.get(option))
        if old == new:
            continue
        effect = Effect.LIVE
        if option in desired.RESTART_KEYS and new != desired.canonical(option, guest.current.get(option)):
            effect = _later(guest)
        if new is None:
            found.token.drop(option, old, effect)
        else:
            found.token.put(option, old, new, effect)


def _features(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    old = _feature_set(guest.config.get("features", ""))
    new = desired.features(spec.features)
    if old == new:
        return
    others_differ = {**old, "nesting": ""} != {**new, "nesting": ""}
    writes = found.root if others_differ else found.token
    in_force = _feature_set(guest.current.get("features", ""))
    writes.put(
        "features",
        guest.config.get("features"),
        propstrings.render("features", new),
        Effect.LIVE if new == in_force else _later(guest),
    )


def _feature_set(text: str) -> Properties:
    parsed = propstrings.parse("features", text)
    plain = {k: "1" if propstrings.truth(v) else v for k, v in parsed.items()}
    return {k: v for k, v in plain.items() if v not in {"0", "no", "off", "false"}}


def _interfaces(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    observed = propstrings.numbered(guest.config, "net")
    for index, interface in enumerate(spec.interfaces):
        option = f"net{index}"
        text = observed.pop(option, None)
        old = propstrings.parse(option, text or "")
        new = desired.net(interface, old)
        if text is None or not desired.same_net(old, new):
            found.token.put(option, text, propstrings.render(option, new))
    for option, text in observed.items():
        found.token.drop(option, text)


def _rootfs(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    properties = propstrings.parse("rootfs", guest.config.get("rootfs", ""))
    _storage(guest.vmid, "rootfs", properties, spec.storage, found)
    _size("rootfs", properties, spec.disk, found)


def _storage(vmid: int, option: str, properties: Mapping[str, str], wanted: str, found: Difference) -> None:
    storage = properties.get("volume", "").partition(":")[0]
    if storage and storage != wanted:
        found.impossible.append(
            FieldDiff(
                field=f"{option} storage",
                old=storage,
                new=wanted,
                effect=Effect.IMPOSSIBLE,
                remedy=f"Stop the container and run `pct move-volume {vmid} {option} {wanted}` on the node.",
            )
        )


def _size(option: str, properties: Mapping[str, str], wanted: int, found: Difference) -> None:
    text = properties.get("size")
    # A plain directory has no size (`size=0T`); an adopted volume has none in the configuration.
    if not text or not (size := propstrings.size_bytes(text)):
        return
    if size < wanted * propstrings.GIB:
        found.resizes[option] = FieldDiff(field=f"{option} size", old=text, new=f"{wanted}G")
    elif size > wanted * propstrings.GIB:
        found.impossible.append(
            FieldDiff(
                field=f"{option} size",
                old=text,
                new=f"{wanted}G",
                effect=Effect.IMPOSSIBLE,
                remedy=f"Disks grow, they never shrink: write {text} to the stack file, or back the data up and make"
                " the container anew.",
            )
        )


def _mounts(spec: ContainerSpec, guest: ObservedGuest, found: Difference, *, prune: bool) -> None:
    observed = {
        option: propstrings.parse(option, text)
        for option, text in propstrings.numbered(guest.config, "mp").items()
    }
    by_path = {properties.get("mp", ""): option for option, properties in observed.items()}
    free = _free("mp", guest)
    for wanted in spec.volumes:
        option = by_path.pop(wanted.path, None)
        if option is None:
            option = next(free)
            if unused := propstrings.numbered(guest.config, "unused"):
                found.impossible.append(_detached(guest.vmid, option, unused, wanted))
            else:
                found.token.put(option, None, propstrings.render(option, desired.volume(wanted)))
            continue
        old = observed[option]
        if desired.is_bind(old):
            found.impossible.append(_other_kind(guest.vmid, option, old, f"a volume on {wanted.storage}"))
            continue
        _storage(guest.vmid, option, old, wanted.storage, found)
        _volume(option, old, wanted, guest, found)
    for mount in spec.mounts:
        option = by_path.pop(mount.path, None)
        if option is None:
            option = next(free)
            found.root.put(option, None, propstrings.render(option, desired.bind(mount)))
            continue
        old = observed[option]
        if not desired.is_bind(old):
            found.impossible.append(_other_kind(guest.vmid, option, old, f"the directory {mount.source}"))
            continue
        _mount_options(option, old, desired.bind(mount, old), guest, found.root)
    for option in sorted(by_path.values(), key=propstrings.number):
        text = guest.config[option]
        if prune or desired.is_bind(observed[option]):
            found.token.drop(option, text, _later(guest))
        else:
            found.notes.append(
                f"{spec.hostname}: the volume {text} is not in the stack any more and stays; `--prune` detaches it."
            )


def _volume(
    option: str, old: Properties, wanted: VolumeSpec, guest: ObservedGuest, found: Difference
) -> None:
    in_force = propstrings.parse(option, guest.current.get(option, ""))
    # A pending value repeats the size of its day; what is in force follows the volume.
    actual = in_force if in_force.get("volume") == old.get("volume") else old
    _size(option, actual, wanted.size, found)
    new = desired.volume(wanted, old)
    size = f"{wanted.size}G" if option in found.resizes else actual.get("size")
    if size:
        new["size"] = size
    if option in guest.pending and old.get("size") != size and desired.same_mount(old, new):
        found.token.put(
            option, propstrings.render(option, old), propstrings.render(option, new), _later(guest)
        )
    else:
        _mount_options(option, old, new, guest, found.token)


def _detached(vmid: int, option: str, unused: Mapping[str, str], wanted: VolumeSpec) -> FieldDiff:
    """A wanted volume where detached ones lie about: an empty one in its place would hide the data of before."""
    name, first = next(iter(unused.items()))
    return FieldDiff(
        field=option,
        old=f"detached: {', '.join(unused.values())}",
        new=f"a volume at {wanted.path}",
        effect=Effect.IMPOSSIBLE,
        remedy=f"If a detached volume holds the data of {wanted.path}, attach it on the node:"
        f" `pct set {vmid} --{option} {first},mp={wanted.path}`. If none does, destroy them:"
        f" `pct set {vmid} --delete {name}`. Then run again.",
    )


def _other_kind(vmid: int, option: str, old: Mapping[str, str], new: str) -> FieldDiff:
    return FieldDiff(
        field=option,
        old=old.get("volume"),
        new=new,
        effect=Effect.IMPOSSIBLE,
        remedy=f"Move the data away, detach the mount point (`pct set {vmid} --delete {option}`), and run again.",
    )


def _mount_options(
    option: str, old: Properties, new: Properties, guest: ObservedGuest, writes: Writes
) -> None:
    if desired.same_mount(old, new):
        return
    in_force = propstrings.parse(option, guest.current.get(option, ""))
    effect = Effect.LIVE if desired.same_mount(in_force, new) else _later(guest)
    writes.put(option, propstrings.render(option, old), propstrings.render(option, new), effect)


def _devices(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    observed = {
        option: propstrings.parse(option, text)
        for option, text in propstrings.numbered(guest.config, "dev").items()
    }
    by_path = {properties.get("path", ""): option for option, properties in observed.items()}
    wanted_paths = {wanted.path for wanted in spec.devices}
    free = _free("dev", guest)
    for wanted in spec.devices:
        new = desired.device(wanted)
        option = by_path.pop(wanted.path, None)
        if option is None and wanted.label:
            option = _moved(by_path, wanted.path, wanted_paths)
        if option is None:
            option = next(free)
            # Proxmox VE 9 plugs a new device at once, 8 at the next start: the restart is right on both.
            found.root.put(option, None, propstrings.render(option, new), _later(guest), wanted.label)
        elif not desired.same_device(observed[option], new):
            in_force = propstrings.parse(option, guest.current.get(option, ""))
            effect = Effect.LIVE if desired.same_device(in_force, new) else _later(guest)
            text = propstrings.render(option, new)
            found.root.put(option, guest.config[option], text, effect, wanted.label)
    for option in sorted(by_path.values(), key=propstrings.number):
        if option in guest.pending:
            found.revert.append(option)
        found.root.drop(option, guest.config[option], _later(guest))


def _moved(by_path: dict[str, str], path: str, wanted: set[str]) -> str | None:
    """The option of a node of the same kind that is not wanted any more: a device that got another number."""
    kind = path.rstrip("0123456789")
    old = min(
        (one for one in by_path if one.rstrip("0123456789") == kind and one not in wanted), default=None
    )
    return None if old is None else by_path.pop(old)


def _free(name: str, guest: ObservedGuest) -> _FreeNumbers:
    return _FreeNumbers(name, {*guest.config, *guest.current})


class _FreeNumbers:
    """Option names ``mp0``, ``mp1``, ... that nothing holds, pending removals included."""

    def __init__(self, name: str, taken: set[str]) -> None:
        self._name, self._taken = name, taken

    def __next__(self) -> str:
        index = 0
        while (option := f"{self._name}{index}") in self._taken:
            index += 1
        self._taken.add(option)
        return option


def _fixed(spec: ContainerSpec, guest: ObservedGuest, found: Difference) -> None:
    if spec.pool and guest.pool != spec.pool:
        found.pool = FieldDiff(field="pool", old=guest.pool, new=spec.pool)
    if not propstrings.truth(guest.config.get("unprivileged")):
        found.impossible.append(
            FieldDiff(
                field="unprivileged",
                old="0",
                new="1",
                effect=Effect.IMPOSSIBLE,
                remedy="Back the container up and restore it as unprivileged (`pct restore"
                f" {guest.vmid} BACKUP --unprivileged 1`).",
            )
        )
    if guest.node != spec.node:
        found.impossible.append(
            FieldDiff(
                field="node",
                old=guest.node,
                new=spec.node,
                effect=Effect.IMPOSSIBLE,
                remedy=f"Move it with `pct migrate {guest.vmid} {spec.node} --restart` on {guest.node}, or name {guest.node} in"
                " the stack file (hosts.<name>.node).",
            )
        )
