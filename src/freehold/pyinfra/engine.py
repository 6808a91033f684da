"""Runs one deploy with pyinfra's API, as pyinfra's own command line does, and reports events.

Works only in a process that gevent has patched first: see ``__main__.py``.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import gevent
import pyinfra
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state

from freehold import resources
from freehold.errors import FreeholdError
from freehold.events import Status
from freehold.proxmox.changes import Plan
from freehold.proxmox.client import PveClient, Token
from freehold.pyinfra import inventory, session
from freehold.pyinfra.facts import HostManifest
from freehold.pyinfra.reporting import Emit, Reporter, name, step
from freehold.pyinfra.request import Deploy, Request
from freehold.pyinfra.session import Session


def run(request: Request, emit: Emit) -> int:
    """Carry out ``request``; returns 0 when every host is as it should be, else 1.

    Hosts are independent: one that fails is left out of what follows, and the others go on.
    """
    reporter = Reporter(request.stage or request.deploy.stage, emit)
    try:
        state = _state(request, reporter)
        if state is not None:
            _work(request, state, reporter)
    except PyinfraError as error:
        # "No hosts remaining!": each host has said by itself what failed
        if not reporter.failed:
            _fail(reporter, FreeholdError(str(error), doing=f"running the deploy {request.deploy}"))
    except FreeholdError as error:
        _fail(reporter, error)
    finally:
        reporter.finish()
    return 1 if reporter.failed else 0


def _state(request: Request, reporter: Reporter) -> State | None:
    plan = request.plan or Plan(client=request.layout.client)
    found = inventory.groups(request.layout, request.ssh_config, request.scrape_hash)[request.deploy.group]
    if request.deploy.group == "containers":
        found += inventory.leftover(request.layout, plan)
    hosts = [
        (host, data | _driver(request, data["freehold_host"]))
        for host, data in found
        if request.hosts is None or data["freehold_host"] in request.hosts
    ]
    if not hosts:
        return None
    session.share(Session(lambda: _client(request), lambda: plan, request.phases))
    config = Config(PARALLEL=request.options.parallel, CONNECT_TIMEOUT=request.options.connect_timeout)
    # change detection would ask every host twice: once to foretell, once to do
    state = State(Inventory((hosts, {})), config, check_for_changes=False)
    state.print_input = state.print_fact_input = request.options.verbosity > 0
    state.print_output = state.print_fact_output = request.options.verbosity > 1
    state.add_callback_handler(reporter)
    # operations are told apart by their line in the deploy file, as in pyinfra's own command line: hosts may differ
    # in which of them they have
    pyinfra.is_cli = True
    ctx_state.set(state)
    ctx_inventory.set(state.inventory)
    return state


def _driver(request: Request, name: str) -> dict[str, Any]:
    """What a node or a container must know of the NVIDIA driver, as plain data."""
    if request.deploy is Deploy.GPU:
        return {"driver": request.driver and request.driver.model_dump(), "replace": request.replace}
    if request.deploy is not Deploy.BASE:
        return {}
    host = request.layout.host(name)
    nvidia = any(device.path.startswith("/dev/nvidia") for device in host.devices)
    release = request.user_space.get(host.node) if nvidia else None
    return {"user_space": release and release.model_dump()}


def _client(request: Request) -> PveClient:
    proxmox = request.layout.proxmox
    return PveClient(
        proxmox.endpoint,
        Token(proxmox.token, request.secrets["proxmox"]["token"]),
        ca_file=proxmox.ca_file,
        fingerprint=proxmox.fingerprint,
        timeout=proxmox.timeout,
    )


def _work(request: Request, state: State, reporter: Reporter) -> None:
    state.set_stage(StateStage.Connect)
    connect_all(state)
    state.set_stage(StateStage.Prepare)
    try:
        if request.deploy is Deploy.FACTS:
            _each(state, reporter, lambda host: _facts(host, reporter))
            return
        path = resources.deploys() / request.deploy.file
        state.current_deploy_filename = str(path)
        code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        _each(state, reporter, lambda _: exec(code, {"__file__": str(path), "__name__": "deploy"}))  # noqa: S102
        if request.options.dry:
            _each(state, reporter, lambda host: _foretell(state, host, reporter))
            return
        state.set_stage(StateStage.Execute)
        run_ops(state)
    finally:
        reporter.finish()
        disconnect_all(state)


def _each(state: State, reporter: Reporter, work: Callable[[Host], object]) -> None:
    """Do ``work`` for every host that is left, at once; one that raises fails alone."""

    def guarded(host: Host) -> bool:
        with ctx_config.use(state.config.copy()), ctx_host.use(host):
            try:
                work(host)
            except FreeholdError as error:
                _fail(reporter, error, name(host))
            except Exception as error:  # noqa: BLE001 - a deploy may raise anything, and other hosts go on
                traceback.print_exc()
                _fail(
                    reporter,
                    FreeholdError(f"{type(error).__name__}: {error}", doing="preparing the deploy"),
                    name(host),
                )
            else:
                return True
        return False

    jobs = {host: state.pool.spawn(guarded, host) for host in list(state.inventory.get_active_hosts())}
    gevent.joinall(jobs.values())
    state.fail_hosts({host for host, job in jobs.items() if not job.value})


def _foretell(state: State, host: Host, reporter: Reporter) -> None:
    """Report the commands that each operation would run."""
    for op_hash in host.op_hash_order:
        commands = [str(command) for command in state.ops[host][op_hash].command_generator()]
        status = Status.CHANGED if commands else Status.OK
        reporter.emit(
            name(host), step(state, op_hash), status, "would change" if commands else "", commands=commands
        )


def _facts(host: Host, reporter: Reporter) -> None:
    found = host.get_fact(HostManifest)
    reporter.emit(name(host), "Manifest", Status.OK, **found)


def _fail(reporter: Reporter, error: FreeholdError, host: str = "") -> None:
    reporter.emit(host, error.doing or "Deploy", Status.FAILED, error.message, error=error.as_dict())


def log_to_stderr(verbosity: int) -> None:
    """Send pyinfra's own messages to standard error."""
    logger = logging.getLogger("pyinfra")
    logger.setLevel(logging.DEBUG if verbosity > 2 else logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stderr))
