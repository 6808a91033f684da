"""``freehold models try``: ask a candidate and the current language model the client's own cases, beside or in its place.

Beside, nothing is changed: both are asked at their engines' proxies, through SSH. In the place of the current one, the engine
serves the candidate for a window; ``trial.yml`` (:mod:`freehold.layout.trial`) is there while it does.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from freehold import ssh
from freehold.layout import trial
from freehold.run import evaluation, model_change
from freehold.run.context import Client
from freehold.run.evaluation import cases as own_cases
from freehold.run.evaluation import compare
from freehold.run.evaluation.cases import Case
from freehold.run.folder import RunFolder
from freehold.run.stages import Sink
from freehold.run.up import Options, up
from freehold.vault import write_private

_TUNNEL = 30
"""Seconds until a tunnel to an engine's host must stand."""
_FORWARDED = "freehold-forwarded"


def try_out(
    client: Client,
    new: model_change.Served,
    now: model_change.Served,
    *,
    at_once: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[compare.Comparison, Path]:
    """Ask both language models the client's cases, one after the other, past the router; the comparison and its folder.

    Nothing is changed, and no port is opened: questions go through SSH to each engine's host and to its proxy there.

    Raises:
        CasesError: The client has no cases, or one is wrong.
        EvaluationError: The cases could not be run.
        UnreachableError: An engine's host does not answer.
    """
    cases = own_cases.load(client.directory)
    sources = client.stack.sources
    python = evaluation.environment(sources.mirror, sources.wheels, say)
    folder = RunFolder(client.directory, "try")
    sides = [
        _side(client, each, cases, python, folder, label, at_once, say)
        for label, each in (("current", now), ("candidate", new))
    ]
    return _compared(client, now.name, sides, cases, folder), folder.path


def _side(
    client: Client,
    each: model_change.Served,
    cases: Sequence[Case],
    python: Path,
    folder: RunFolder,
    label: str,
    at_once: int,
    say: Callable[[str], None],
) -> compare.Side:
    """Ask one language model all cases."""
    say(f"Asking {each.model} on {each.engine}: {len(cases)} cases")
    with _reached(client, each.engine) as (url, key):
        results = evaluation.run(
            python,
            cases,
            url=url,
            key=key,
            model=each.served,
            log_dir=folder.path / f"inspect-{label}",
            at_once=at_once,
        )
    return compare.side(each.model, each.engine, cases, results)


def _compared(
    client: Client, name: str, sides: Sequence[compare.Side], cases: Sequence[Case], folder: RunFolder
) -> compare.Comparison:
    """Both sides, written into the run's folder."""
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    comparison = compare.Comparison(client.stack.client, name, when, sides[0], sides[1], tuple(cases))
    comparison.write(folder.path)
    return comparison


@contextmanager
def _reached(client: Client, engine: str) -> Iterator[tuple[str, str]]:
    """Address and key of an engine's proxy, through SSH to its host.

    Raises:
        UnreachableError: The host does not answer.
    """
    told = next(
        each for each in model_change.router(client).variables["litellm_engines"] if each["name"] == engine
    )
    host = client.whole_layout.service(engine).host
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["ssh", "-F", str(client.ssh().config), "-S", "none", "-o", "BatchMode=yes"]
    command += [
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        f"127.0.0.1:{port}:{told['address']}:{told['port']}",
        host,
        f"echo {_FORWARDED}; exec cat >/dev/null",
    ]
    pipe = subprocess.PIPE
    tunnel = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        _wait(tunnel, host)
        yield f"http://127.0.0.1:{port}/v1", model_change.value(client, told["key"])
    finally:
        tunnel.terminate()
        with suppress(subprocess.TimeoutExpired):
            tunnel.wait(timeout=10)
        tunnel.kill()


def _wait(tunnel: subprocess.Popen[str], host: str) -> None:
    """Until the other end speaks: ssh has the port then, or would have ended.

    That somebody listens there is no sign of it: another user of this machine could, and would be shown the engine's key.
    """
    assert tunnel.stdout
    assert tunnel.stderr
    limit = threading.Timer(_TUNNEL, tunnel.kill)
    limit.start()
    try:
        if any(line.strip() == _FORWARDED for line in tunnel.stdout):
            return
        said = tunnel.stderr.read()
    finally:
        limit.cancel()
    raise ssh.UnreachableError(
        f"{host} does not answer over SSH", doing="reaching the engine", where=host, answer=said.strip()
    )


# --- trying in the place of the current one -------------------------------------------------------------------------


def try_instead(
    client: Client,
    wanted: str,
    sink: Sink,
    *,
    name: str | None = None,
    minutes: int = 0,
    at_once: int = 1,
    say: Callable[[str], None] = lambda _: None,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[compare.Comparison, Path]:
    """Serve the candidate in the place of the current language model for a window, and ask both the client's cases.

    For a client whose GPUs hold one language model at a time. People who use the name wait while the engine restarts, get the
    candidate during the window, and the current one again afterwards, also when something fails or Ctrl-C ends it.

    Args:
        client: The client; its stack names language models under ``models``.
        wanted: Id of the candidate in the catalogue; the stack does not have it yet.
        sink: Takes the events of the runs that change the engine.
        name: The name whose place it takes; the only one of a language model for chats when left out.
        minutes: How long people have the candidate after its cases were asked.
        at_once: Questions at the same time.
        say: Told what is done.
        wait: Waits so many seconds.

    Raises:
        UnknownModelError: It is not clear whose place it takes.
        TrialError: The stack has the candidate already, or a trial runs.
        FreeholdError: It does not fit, its licence forbids it, its weights cannot be fetched, or a host fails.
    """
    running = trial.load(client.directory)
    if running is not None:
        raise trial.TrialError(
            f"{running.model} is being tried until {running.until:%H:%M}",
            where=str(client.directory / trial.FILE),
            remedy=f"Wait, or end it: freehold models back {client.stack.client}",
        )
    now = _replaced(client, name)
    cases = own_cases.load(client.directory)
    python = evaluation.environment(client.stack.sources.mirror, client.stack.sources.wheels, say)
    folder = RunFolder(client.directory, "try")
    until = datetime.now().astimezone() + timedelta(minutes=minutes)
    path = client.directory / trial.FILE
    write_private(path, trial.dump(trial.Trial(instead=now.model, model=wanted, until=until)).encode())
    try:
        Client.open(client.loaded.path).layout  # noqa: B018 - what cannot be is said before anything is touched
    except BaseException:
        path.unlink()
        raise
    try:
        sides = [_side(client, now, cases, python, folder, "current", at_once, say)]
        say(f"Putting {wanted} in the place of {now.model} on {now.engine}")
        up(_around(client, now.engine), sink, Options(prove=False))
        new = next(
            each for each in model_change.served(Client.open(client.loaded.path)) if each.name == now.name
        )
        sides.append(
            _side(Client.open(client.loaded.path), new, cases, python, folder, "candidate", at_once, say)
        )
        left = (until - datetime.now().astimezone()).total_seconds()
        if left > 0:
            say(f"{now.name} is {wanted} until {until:%H:%M}; Ctrl-C ends it earlier")
            with suppress(KeyboardInterrupt):
                wait(left)
    finally:
        end_trial(client, sink, now.engine, say)
    return _compared(client, now.name, sides, cases, folder), folder.path


def end_trial(
    client: Client, sink: Sink, engine: str | None = None, say: Callable[[str], None] = lambda _: None
) -> bool:
    """End a trial: the stack is as its file says again; whether one ran.

    Raises:
        FreeholdError: The engine could not be brought back; the next ``up`` does it.
    """
    path = client.directory / trial.FILE
    running = trial.load(client.directory)
    if running is None:
        return False
    path.unlink()
    say(f"Putting {running.instead} back in its place")
    again = Client.open(client.loaded.path)
    if engine is None:
        engine = next(model.engine for model in again.whole_layout.models if model.id == running.instead)
    up(_around(client, engine), sink, Options(prove=False))
    return True


def _around(client: Client, engine: str) -> Client:
    """The client with the engine, the router and the keeper of weights alone."""
    there = {service.name: service.role for service in Client.open(client.loaded.path).layout.services}
    wanted = [
        name for name, role in there.items() if name == engine or role in (model_change.ROUTER, "weights")
    ]
    return Client.open(client.loaded.path, only=",".join(wanted))


def _replaced(client: Client, name: str | None) -> model_change.Served:
    """The language model of the stack whose place is taken."""
    ids = set(client.stack.models)
    known = [each for each in model_change.served(client) if each.model in ids and each.kind == "chat"]
    fitting = [each for each in known if name in (None, each.name)]
    if len({each.name for each in fitting}) != 1 or len(fitting) != 1:
        raise model_change.UnknownModelError(
            f"{len(fitting)} language models of the stack could be replaced"
            + (f" under the name {name}" if name else ""),
            answer=f"names: {', '.join(sorted({each.name for each in known})) or 'none under models'}",
            where=str(client.loaded.path),
            remedy="Say which with --as NAME. A language model on several engines is tried beside them.",
        )
    return fitting[0]
