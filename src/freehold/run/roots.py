"""What only root@pam may do: devices, bind mounts, features. Over SSH to the node, or through a root@pam session."""

from __future__ import annotations

import shlex
import subprocess

from freehold.errors import BadInputError, FreeholdError
from freehold.events import Event, Stage, Status
from freehold.proxmox.apply import apply_change
from freehold.proxmox.changes import Change, Phase, Plan
from freehold.proxmox.client import Password, PveClient
from freehold.run.context import Client
from freehold.run.stages import Run, failure


class NoRootError(BadInputError):
    """There is no way to become root on a node."""


def run_steps(run: Run, made: Plan, phase: Phase, stage: Stage) -> None:
    """Make the root steps of a phase.

    Raises:
        NoRootError: A node gives no SSH, and no root@pam password can be had.
        FreeholdError: A step failed.
    """
    changes = [change for change in made.select(phase) if change.root_steps]
    reachable = {node.name for node in run.client.layout.nodes if node.address}
    over_ssh = sorted({change.node for change in changes} & reachable)
    if over_ssh:
        run.pyinfra(
            "root-steps",
            stage,
            hosts=over_ssh,
            plan=made.model_copy(update={"changes": tuple(changes)}).model_dump(mode="json"),
            ssh_config=str(run.client.ssh().config),
        )
    by_session = [change for change in changes if change.node not in reachable]
    if by_session:
        _by_session(run, by_session, stage)


def _by_session(run: Run, changes: list[Change], stage: Stage) -> None:
    names = {host.vmid: host.name for host in run.client.whole_layout.hosts}
    failed: list[Event] = []
    with root_session(run.client) as root:
        for change in changes:
            event = _made(run, change, root, stage, names.get(change.vmid, change.host))
            run(event)
            if event.status is Status.FAILED:
                failed.append(event)
    if failed:
        raise failure(stage, failed, log=str(run.folder.path))


def _made(run: Run, change: Change, root: PveClient, stage: Stage, host: str) -> Event:
    step = "Devices and mounts"
    try:
        outcome = apply_change(run.client.api, change, root=root)
    except FreeholdError as error:
        data = {"error": error.as_dict()}
        return Event(
            stage=stage, status=Status.FAILED, step=step, host=host, message=error.message, data=data
        )
    return Event(stage=stage, status=Status.CHANGED if outcome.changed else Status.OK, step=step, host=host)


def root_session(client: Client, password: str | None = None) -> PveClient:
    """A session of root@pam; its password is given, or printed by ``proxmox.root_password_command``.

    Raises:
        NoRootError: There is no password.
    """
    pve = client.stack.proxmox
    return PveClient(
        pve.endpoint,
        Password("root@pam", password or _password(client)),
        ca_file=client.ca_file,
        fingerprint=pve.fingerprint,
        timeout=pve.timeout,
    )


def _password(client: Client) -> str:
    command = client.stack.proxmox.root_password_command
    where = f"{client.loaded.path}: proxmox.root_password_command"
    if not command:
        raise NoRootError(
            "Only root@pam may do this, and there is no way to become root on the node",
            where=where,
            remedy="Give SSH to the node (nodes.<name>.address and host_key), or proxmox.root_password_command.",
        )
    return printed_password(command, where)


def printed_password(command: str, where: str) -> str:
    """The password of root@pam that a command prints.

    Raises:
        NoRootError: The command does not exist, fails, prints nothing or does not end within 60 seconds.
    """
    try:
        answer = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False, timeout=60)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        failure = "it did not end within 60 s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
    else:
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.strip()
        failure = answer.stderr.strip() or f"exit code {answer.returncode}, no output"
    raise NoRootError(
        "The command that prints the password of root@pam failed",
        where=where,
        answer=failure,
        remedy="Run the command by hand: it must print the password and nothing else. It runs without a shell;"
        " for pipes and variables, write: sh -c '...'",
    )
