"""Creation of containers (part of a stand-in of Proxmox VE, for development).

A port of ``PVE::API2::LXC::create_vm``: what is refused at once, and what the task does.
"""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from pathlib import Path

from freehold.lab.answers import PveError, bad_parameters, denied, failed
from freehold.lab.backend import BackendError, Guest, Log
from freehold.lab.context import Call, Lab
from freehold.lab.guests import (
    DEFAULT_SIZE,
    GIB,
    Config,
    format_size,
    is_mount,
    is_unused,
    parse_features,
    parse_mount,
    parse_volume_id,
)
from freehold.lab.lxc_permissions import check_modify
from freehold.lab.lxc_power import start_task
from freehold.lab.lxc_update import apply_changes
from freehold.lab.storage import TEMPLATE_ENDINGS

_NOT_CONFIG = frozenset(
    [
        "node",
        "vmid",
        "ostemplate",
        "storage",
        "restore",
        "unique",
        "force",
        "password",
        "ssh-public-keys",
        "pool",
        "start",
        "bwlimit",
        "ignore-unpack-errors",
        "unprivileged",
        "ha-managed",
    ]
)
_SYSTEMD = {"debian-12": 252, "debian-13": 257}


def check_pool(lab: Lab, pool: str | None) -> None:
    """Raises:
    PveError: 403, to root too, as the real node does.
    """
    if pool is not None and pool not in lab.state.data["pools"]:
        raise denied(f"pool '{pool}' does not exist")


def check_free(lab: Lab, vmid: int) -> None:
    """Raises:
    PveError: 500 when the id is taken.
    """
    if lab.guests.exists(vmid):
        raise failed(f"CT {vmid} already exists on node '{lab.state.node.name}'")


def check_ssh_keys(text: str) -> None:
    """``PVE::Tools::validate_ssh_public_keys``."""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.search(r"(?:^|\s)((?:ssh|ecdsa|sk)-\S+)\s+([A-Za-z0-9+/=]+)(?:\s|$)", line)
        try:
            good = bool(match) and len(base64.b64decode(match[2], validate=True)) > 16 if match else False
        except binascii.Error:
            good = False
        if not good:
            raise failed("SSH public key validation error")


def create(call: Call) -> str:
    """``POST /nodes/{node}/lxc``."""
    lab, vmid, user = call.lab, call.vmid, call.user
    restore = call.flag("restore")
    if not (restore and call.flag("force")):
        check_free(lab, vmid)
    if keys := call.get("ssh-public-keys"):
        check_ssh_keys(keys)
    pool = call.get("pool")
    check_pool(lab, pool)
    if not (
        lab.access.has(user, f"/vms/{vmid}", "VM.Allocate")
        or (pool and lab.access.has(user, f"/pool/{pool}", "VM.Allocate"))
    ):
        raise denied()
    unprivileged = call.flag("unprivileged", default=True)
    template, default = str(call.params["ostemplate"]), call.get("storage") or "local"
    given = {
        key: str(value) for key, value in call.params.items() if key not in _NOT_CONFIG and not is_unused(key)
    }
    check_modify(lab, user, vmid, pool, {}, given, unprivileged=unprivileged)
    if not unprivileged:
        lab.access.check(user, "/", "Sys.Modify")
    lab.storages.check_volume_access(lab.access, user, vmid, template, "backup" if restore else "vztmpl")
    if restore:
        raise PveError(501, "the lab does not restore backups")
    mounts = {
        key: f"{default}:{value}" if re.fullmatch(r"\d+(\.\d+)?", value) else value
        for key, value in given.items()
        if is_mount(key)
    }
    if mounts and "rootfs" not in mounts:
        raise failed("mount points configured, but 'rootfs' not set - aborting")
    for key, value in mounts.items():
        mount = parse_mount(key, value)
        if mount.kind == "volume":
            _check_storage(lab, user, parse_volume_id(mount.volume)[0])
    if not mounts:
        _check_storage(lab, user, default)
        mounts["rootfs"] = f"{default}:{DEFAULT_SIZE // GIB}"
    config = Config()
    apply_changes(lab, vmid, config, {k: v for k, v in given.items() if k not in mounts}, running=False)
    with lab.state.change():
        check_free(lab, vmid)
        lab.guests.save(vmid, Config({"lock": "create"}))
    work = _Create(call, config, mounts, template, pool, unprivileged)
    return lab.tasks.start("vzcreate", str(vmid), user, work.run)


def _check_storage(lab: Lab, user: str, storage: str) -> None:
    lab.storages.usable(storage)
    if not lab.storages.holds(storage, "rootdir"):
        raise bad_parameters({"storage": f"storage '{storage}' does not support container directories"})
    lab.access.check(user, f"/storage/{storage}", "Datastore.AllocateSpace")


class _Create:
    """The task of one creation."""

    def __init__(
        self,
        call: Call,
        config: Config,
        mounts: dict[str, str],
        template: str,
        pool: str | None,
        unprivileged: bool,
    ) -> None:
        self.call, self.lab, self.vmid = call, call.lab, call.vmid
        self.config, self.mounts, self.template = config, mounts, template
        self.pool, self.unprivileged = pool, unprivileged
        self.made: list[str] = []

    def run(self, log: Log) -> None:
        """Make the container, or leave nothing of it."""
        lab, vmid = self.lab, self.vmid
        with lab.guests.locked(vmid):
            try:
                self._make(log)
            except (BackendError, PveError) as error:
                for volume in self.made:
                    lab.storages.free(volume)
                lab.guests.remove(vmid)
                text = error.task_text() if isinstance(error, PveError) else str(error)
                raise BackendError(f"unable to create CT {vmid} - {text}") from error
            if self.pool:
                with lab.state.change() as data:
                    data["pools"][self.pool]["vms"].append(vmid)
        if self.call.flag("ha-managed"):
            log("Add as HA resource")
            command = f"ha-manager add ct:{vmid} --state stopped"
            why = "No such file or directory at /usr/share/perl5/PVE/Cmd.pm line 174."
            log(f"command '{command}' failed: open3: exec of {command} failed: {why}")
        if self.call.flag("start"):
            start_task(self.call)

    def _make(self, log: Log) -> None:
        lab, config = self.lab, self.config
        archive = self._archive(log)
        for key in sorted(self.mounts, key=lambda name: (name != "rootfs", len(name), name)):
            mount = parse_mount(key, self.mounts[key])
            if mount.kind == "volume":
                made = mount.new_volume
                if made is None:
                    raise failed(
                        f"unable to parse directory volume name '{parse_volume_id(mount.volume)[1]}'"
                    )
                volume = lab.storages.allocate(made[0], self.vmid, made[1], log)
                self.made.append(volume)
                mount.parts |= {"volume": volume, "size": format_size(made[1])}
                config.current[key] = mount.text()
            else:
                config.current[key] = self.mounts[key]
        defaults = {
            "hostname": f"CT{self.vmid}",
            "memory": "512",
            "swap": "512",
            "arch": "amd64",
            "ostype": self._ostype(),
        }
        config.current = {**defaults, **config.current}
        if self.unprivileged:
            config.current["unprivileged"] = "1"
        guest = lab.guest(self.vmid, config)
        try:
            lab.backend.create(
                guest,
                archive,
                ssh_public_keys=self.call.get("ssh-public-keys"),
                password=self.call.get("password"),
                log=log,
            )
            self._warn_nesting(log)
        except BackendError:
            self._undo(guest)
            raise
        lab.guests.save(self.vmid, config)

    def _undo(self, guest: Guest) -> None:
        with suppress(BackendError):
            self.lab.backend.destroy(guest, lambda _line: None)

    def _archive(self, log: Log) -> Path:
        name = self.template
        if name.startswith("/"):
            if not name.endswith(TEMPLATE_ENDINGS):
                raise failed(f"file does not look like a template archive: {name}")
            return Path(name)
        if ":" not in name:
            log(f"can't find file '{name}'")
            raise failed(f"can't find file '{name}'")
        path = self.lab.storages.path(name)
        if not path.is_file():
            log(f"volume '{name}' does not exist")
            raise failed(f"volume '{name}' does not exist")
        return path

    def _ostype(self) -> str:
        name = self.template.rpartition("/")[2]
        known = (
            "debian",
            "devuan",
            "ubuntu",
            "centos",
            "fedora",
            "opensuse",
            "archlinux",
            "alpine",
            "gentoo",
            "nixos",
        )
        return next((ostype for ostype in known if name.startswith(ostype)), "unmanaged")

    def _warn_nesting(self, log: Log) -> None:
        name = self.template.rpartition("/")[2]
        version = next((number for prefix, number in _SYSTEMD.items() if name.startswith(prefix)), None)
        nesting = parse_features(self.config.current.get("features")).get("nesting") == "1"
        if version and self.unprivileged and not nesting:
            log(f"WARN: Systemd {version} detected. You may need to enable nesting.")
