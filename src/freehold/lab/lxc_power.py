"""Start, stop, shutdown, reboot and removal of containers (part of a stand-in of Proxmox VE, for development).

A port of the calls below ``/nodes/{node}/lxc/{vmid}/status`` and of ``destroy_vm``.
"""

from __future__ import annotations

from freehold.lab.answers import bad_parameters, failed
from freehold.lab.backend import BackendError, Log
from freehold.lab.context import Call, Lab
from freehold.lab.guests import Config
from freehold.lab.lxc_update import apply_pending

SHUTDOWN_TIMEOUT = 60
"""Seconds that ``shutdown`` and ``reboot`` wait when the call names none."""


def _skiplock(call: Call) -> bool:
    if call.get("skiplock") is not None and not call.root_session:
        raise bad_parameters({"skiplock": "Only root may use this option."})
    return call.flag("skiplock")


def start(call: Call) -> str:
    """``POST .../status/start``."""
    skip = _skiplock(call)
    if call.lab.running(call.vmid):
        raise failed(f"CT {call.vmid} already running")
    return start_task(call, skip=skip)


def start_task(call: Call, *, skip: bool = False) -> str:
    """The task ``vzstart``."""
    lab, vmid = call.lab, call.vmid

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            config = lab.guests.load(vmid)
            if not skip:
                config.check_lock()
            if config.current.get("template") == "1":
                raise failed("you can't start a CT if it's a template")
            boot(lab, vmid, config, log)

    return lab.tasks.start("vzstart", str(vmid), call.user, work)


def boot(lab: Lab, vmid: int, config: Config, log: Log) -> None:
    """Bring pending changes in force and start."""
    apply_pending(lab, vmid, config, log)
    lab.guests.save(vmid, config)
    lab.backend.start(lab.guest(vmid, config), log)


def stop(call: Call) -> str:
    """``POST .../status/stop``."""
    lab, vmid, skip = call.lab, call.vmid, _skiplock(call)
    if not lab.running(vmid):
        raise failed(f"CT {vmid} not running")

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            if not skip:
                lab.guests.load(vmid).check_lock()
            halt(lab, vmid, log)

    return lab.tasks.start("vzstop", str(vmid), call.user, work)


def halt(lab: Lab, vmid: int, log: Log) -> None:
    """Stop at once; pending changes come in force."""
    lab.backend.stop(vmid, log)
    _settle(lab, vmid, log)


def _settle(lab: Lab, vmid: int, log: Log) -> None:
    config = lab.guests.load(vmid)
    apply_pending(lab, vmid, config, log)
    lab.guests.save(vmid, config)


def shutdown(call: Call) -> str:
    """``POST .../status/shutdown``."""
    lab, vmid = call.lab, call.vmid
    if not lab.running(vmid):
        raise failed(f"CT {vmid} not running")
    timeout = call.number("timeout", SHUTDOWN_TIMEOUT)
    force = call.flag("forceStop")

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            lab.guests.load(vmid).check_lock()
            if not lab.backend.shutdown(vmid, timeout, log):
                if not force:
                    raise BackendError(
                        f"command 'lxc-stop -n {vmid} --nokill --timeout {timeout}' failed: exit code 1"
                    )
                lab.backend.stop(vmid, log)
            _settle(lab, vmid, log)

    return lab.tasks.start("vzshutdown", str(vmid), call.user, work)


def reboot(call: Call) -> str:
    """``POST .../status/reboot``."""
    lab, vmid = call.lab, call.vmid
    if not lab.running(vmid):
        raise failed(f"VM {vmid} not running")
    timeout = call.number("timeout", SHUTDOWN_TIMEOUT)

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            if not lab.backend.shutdown(vmid, timeout, log):
                lab.backend.stop(vmid, log)
            config = lab.guests.load(vmid)
            if "lock" in config.current:
                log("run_buffer: 322 Script exited with status 255")
                log(f'lxc_init: 844 Failed to run lxc.hook.pre-start for container "{vmid}"')
                log(f'__lxc_start: 2027 Failed to initialize container "{vmid}"')
                raise BackendError(f"startup for container '{vmid}' failed")
            boot(lab, vmid, config, log)

    return lab.tasks.start("vzreboot", str(vmid), call.user, work)


def suspend(call: Call) -> str:
    """``POST .../status/suspend``: experimental on a real node, and never works in the lab."""
    if not call.lab.running(call.vmid):
        raise failed(f"CT {call.vmid} not running")
    return _checkpoint(call, "vzsuspend", "-s")


def resume(call: Call) -> str:
    """``POST .../status/resume``."""
    if call.lab.running(call.vmid):
        raise failed(f"CT {call.vmid} already running")
    return _checkpoint(call, "vzresume", "-r --foreground")


def _checkpoint(call: Call, kind: str, options: str) -> str:
    vmid = call.vmid

    def work(log: Log) -> None:
        log(f"lxc-checkpoint: {vmid}: ../src/lxc/tools/lxc_checkpoint.c: main: 298 {vmid} is not defined")
        raise BackendError(
            f"command 'lxc-checkpoint -n {vmid} {options} -D /var/lib/vz/dump' failed: exit code 1"
        )

    return call.lab.tasks.start(kind, str(vmid), call.user, work)


def destroy(call: Call) -> str:
    """``DELETE /nodes/{node}/lxc/{vmid}``."""
    lab, vmid = call.lab, call.vmid
    _check_destroy(lab, vmid, force=call.flag("force"))

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            config = _check_destroy(lab, vmid, force=call.flag("force"))
            if lab.running(vmid):
                log(f"forced to stop CT {vmid} before destroying!")
                lab.backend.stop(vmid, log)
            if call.flag("purge"):
                log(f"purging CT {vmid} from related configurations..")
            config.current["lock"] = "destroyed"
            lab.guests.save(vmid, config)
            lab.backend.destroy(lab.guest(vmid, config), log)
            _free_volumes(lab, vmid, config, stray=call.flag("destroy-unreferenced-disks"))
            lab.guests.remove(vmid)

    return lab.tasks.start("vzdestroy", str(vmid), call.user, work)


def _check_destroy(lab: Lab, vmid: int, *, force: bool) -> Config:
    config = lab.guests.load(vmid)
    if config.protected():
        raise failed(f"can't remove CT {vmid} - protection mode enabled")
    if config.current.get("lock") != "destroyed":
        config.check_lock()
    if not force and lab.running(vmid):
        raise failed(f"unable to destroy CT {vmid} - container is running")
    return config


def _free_volumes(lab: Lab, vmid: int, config: Config, *, stray: bool) -> None:
    named = {mount.volume for mount in config.volumes().values()}
    for volume, known in list(lab.state.data["volumes"].items()):
        if known["vmid"] == vmid and (stray or volume in named):
            lab.storages.free(volume)
