"""Change of a language model: try a candidate by the client's own cases, let its name lead to it, and go back.

``try`` changes nothing. ``promote`` and ``back`` write ``aliases.yml`` and give the router its new list, which it takes over
between one request and the next (``roles/litellm``); no engine and no other service is touched.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from freehold import ssh
from freehold.errors import BadInputError, FreeholdError
from freehold.layout import aliases, trial, variables
from freehold.layout.aliases import Alias, Target
from freehold.layout.types import ServicePlacement
from freehold.run import evaluation
from freehold.run.context import Client
from freehold.run.evaluation import cases as own_cases
from freehold.run.evaluation import compare
from freehold.run.evaluation.cases import Case
from freehold.run.folder import RunFolder
from freehold.run.stages import Sink
from freehold.run.up import Options, up
from freehold.vault import write_private

ROUTER = "litellm"
_REMOTE = Path(__file__).with_name("model_change_remote.py")
_TUNNEL = 30
_FORWARDED = "freehold-forwarded"


class NoRouterError(BadInputError):
    """The stack has no router, so that names lead nowhere."""


class UnknownModelError(BadInputError):
    """The router knows no such name, or no engine serves such a language model."""


class NotTriedError(BadInputError):
    """The candidate was not tried, or was found worse."""


class NotSwitchedError(FreeholdError):
    """The name does not lead where it should."""


@dataclass(frozen=True)
class Served:
    """A name at the router and where it leads."""

    name: str
    engine: str
    served: str
    """Name of the language model at the engine."""
    kind: str
    model: str
    """Id in the stack; the name at the engine where the stack names none."""

    @property
    def target(self) -> Target:
        """Where it leads."""
        return Target(model=self.model, engine=self.engine)

    @property
    def deployment(self) -> str:
        """How the router calls it: ``templates/litellm/models.yaml.j2``."""
        return f"{self.name}@{self.engine}"


def router(client: Client) -> ServicePlacement:
    """The router's service.

    Raises:
        NoRouterError: There is none.
    """
    try:
        return client.whole_layout.service(ROUTER)
    except KeyError:
        raise NoRouterError(
            f"{client.stack.client} has no router: its stack has no {ROUTER}",
            where=str(client.loaded.path),
            remedy=f"Add {ROUTER} under services; names of language models are kept there.",
        ) from None


def served(client: Client) -> list[Served]:
    """All names at the router, as its list has them now.

    Raises:
        NoRouterError: There is no router.
    """
    ids = {(model.engine, model.served): model.id for model in client.whole_layout.models}
    return [
        Served(
            name=model["name"],
            engine=engine["name"],
            served=at_engine,
            kind=model.get("kind", "chat"),
            model=ids.get((engine["name"], at_engine), at_engine),
        )
        for engine in router(client).variables["litellm_engines"]
        for model in engine.get("models", ())
        # A client's own list of engines may leave it out.
        for at_engine in [model.get("served") or model["name"]]
    ]


def candidate(client: Client, wanted: str, engine: str | None = None) -> Served:
    """The language model that is to be tried or promoted, by its id, its name at the router or its name at its engine.

    Raises:
        UnknownModelError: None or several engines serve it.
    """
    known = served(client)
    fitting = [
        each
        for each in known
        if wanted in (each.model, each.name, each.served) and engine in (None, each.engine)
    ]
    found = {(each.engine, each.served): each for each in reversed(fitting)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UnknownModelError(
            f"{wanted} is served by {', '.join(sorted(name for name, _ in found))}",
            remedy="Say which with --engine.",
        )
    raise UnknownModelError(
        f"No engine of {client.stack.client} serves {wanted}" + (f" on {engine}" if engine else ""),
        answer=f"served: {', '.join(sorted({each.model for each in known})) or 'nothing'}",
        where=str(client.loaded.path),
        remedy="Give it an engine beside the current one: under models, and a second engine such as vllm-2 under services; "
        f"then run freehold up {client.stack.client}.",
    )


def current(client: Client, new: Served, name: str | None = None) -> Served:
    """What a name leads to now: the name that is given, or the only one of the kind beside the candidate's own.

    Raises:
        UnknownModelError: There is no such name, or several could be meant.
    """
    others = [
        each
        for each in served(client)
        if each.kind == new.kind and (each.engine, each.served) != (new.engine, new.served)
    ]
    if name is not None:
        found = [each for each in served(client) if each.name == name]
        if not found:
            there = ", ".join(sorted({each.name for each in others})) or "none"
            raise UnknownModelError(f"The router has no name {name}", answer=f"names: {there}")
        if found[0].kind != new.kind:
            raise UnknownModelError(
                f"{name} is for {found[0].kind}, and {new.model} is for {new.kind}",
                remedy="Name a language model of the same kind.",
            )
        return found[0]
    names = sorted({each.name for each in others})
    if len(names) != 1:
        raise UnknownModelError(
            f"{new.model} could take the place of {', '.join(names)}"
            if names
            else f"There is no other {new.kind} language model whose place {new.model} could take",
            remedy="Say whose place it takes with --as NAME.",
        )
    return next(each for each in others if each.name == names[0])


# --- trying ----------------------------------------------------------------------------------------------------------


def try_out(
    client: Client,
    new: Served,
    now: Served,
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
    each: Served,
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
    told = next(each for each in router(client).variables["litellm_engines"] if each["name"] == engine)
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
        yield f"http://127.0.0.1:{port}/v1", _value(client, told["key"])
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


def _value(client: Client, text: str) -> str:
    """The value of a variable that may be the lookup of a secret."""
    names = variables.looked_up(text)
    return client.secrets.get(names.pop()) if names else text


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
        new = next(each for each in served(Client.open(client.loaded.path)) if each.name == now.name)
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
    wanted = [name for name, role in there.items() if name == engine or role in (ROUTER, "weights")]
    return Client.open(client.loaded.path, only=",".join(wanted))


def _replaced(client: Client, name: str | None) -> Served:
    """The language model of the stack whose place is taken."""
    ids = set(client.stack.models)
    known = [each for each in served(client) if each.model in ids and each.kind == "chat"]
    fitting = [each for each in known if name in (None, each.name)]
    if len({each.name for each in fitting}) != 1 or len(fitting) != 1:
        raise UnknownModelError(
            f"{len(fitting)} language models of the stack could be replaced"
            + (f" under the name {name}" if name else ""),
            answer=f"names: {', '.join(sorted({each.name for each in known})) or 'none under models'}",
            where=str(client.loaded.path),
            remedy="Say which with --as NAME. A language model on several engines is tried beside them.",
        )
    return fitting[0]


# --- switching -------------------------------------------------------------------------------------------------------


def tried(client: Client, new: Served, now: Served) -> dict[str, Any] | None:
    """The newest comparison of these two; none where there is none."""
    for path in sorted((client.directory / "runs").glob(f"*-try*/{compare.FILE}"), reverse=True):
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sides = {side: (told[side]["model"], told[side]["engine"]) for side in ("current", "candidate")}
        if sides == {"current": (now.model, now.engine), "candidate": (new.model, new.engine)}:
            return {**told, "path": str(path)}
    return None


def require_tried(client: Client, new: Served, now: Served) -> None:
    """Refuse a candidate that was not tried, or was found worse.

    Raises:
        NotTriedError: It is so.
    """
    told = tried(client, new, now)
    again = f"freehold models try {client.stack.client} {new.model} --as {now.name}"
    if told is None:
        raise NotTriedError(
            f"{new.model} on {new.engine} was not tried against {now.model}",
            where=str(client.directory / "runs"),
            remedy=f"Run: {again}. To go without: --untested.",
        )
    if told["worse"] or told["leaks"]:
        raise NotTriedError(
            told["verdict"],
            where=told["path"],
            remedy="Read the comparison beside that file. To promote it all the same: --untested.",
        )


def promote(client: Client, new: Served, now: Served, sink: Sink, *, today: date | None = None) -> Alias:
    """Let the name of ``now`` lead to ``new``: for the next request on, while those in flight are answered where they are.

    Raises:
        UnknownModelError: It leads there already.
        NotSwitchedError: The router did not take it over; the name leads where it led before.
        FreeholdError: The router's host could not be configured; likewise.
    """
    if (now.engine, now.served) == (new.engine, new.served):
        raise UnknownModelError(f"{now.name} leads to {new.model} on {new.engine} already")
    alias = Alias(model=new.model, engine=new.engine, since=today or date.today(), previous=now.target)
    _switch(client, now.name, alias, sink)
    return alias


def back(
    client: Client, sink: Sink, name: str | None = None, *, today: date | None = None
) -> tuple[str, Alias]:
    """Let a name lead where it led before; the name, and where it leads now.

    Raises:
        UnknownModelError: No name was promoted, or several were.
        NotSwitchedError: The router did not take it over.
    """
    known = {each: alias for each, alias in aliases.load(client.directory).items() if alias.previous}
    if name is None and len(known) == 1:
        name = next(iter(known))
    if name is None or name not in known:
        raise UnknownModelError(
            f"{name} was not promoted"
            if name
            else "No name was promoted"
            if not known
            else "Several names were promoted",
            where=str(client.directory / aliases.FILE),
            answer=f"promoted: {', '.join(sorted(known)) or 'none'}",
            remedy="Say which with --as NAME."
            if known
            else f"There is no way back to go: names lead where {client.stack.client}'s stack file says.",
        )
    was = known[name]
    assert was.previous is not None
    alias = Alias(
        model=was.previous.model,
        engine=was.previous.engine,
        since=today or date.today(),
        previous=Target(model=was.model, engine=was.engine),
    )
    _switch(client, name, alias, sink)
    return name, alias


def _switch(client: Client, name: str, alias: Alias, sink: Sink) -> None:
    path = client.directory / aliases.FILE
    before = path.read_bytes() if path.is_file() else None
    wanted = aliases.dump({**aliases.load(client.directory), name: alias}).encode()
    try:
        _apply(client, path, wanted, sink)
        by = _who_answers(client, name)
        if by not in (f"{name}@{alias.engine}", ""):
            raise NotSwitchedError(
                f"{name} is answered by {by.rpartition('@')[2]} instead of {alias.engine}",
                doing=f"letting {name} lead to {alias.model}",
                where=ROUTER,
                remedy="It leads where it led before. See `journalctl -u litellm` on the router's host.",
            )
    except BaseException:
        # Whatever went wrong, and also who pressed Ctrl-C: the file must not say what is not so. Where the router cannot be
        # reached any more, the next `up` tells it.
        with suppress(FreeholdError):
            _apply(client, path, before, sink)
        raise


def _apply(client: Client, path: Path, content: bytes | None, sink: Sink) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_private(path, content)
        path.chmod(0o644)
    up(Client.open(client.loaded.path, only=ROUTER), sink, Options(prove=False))


def _who_answers(client: Client, name: str) -> str:
    """The deployment that answers to a name, asked on the router's host with the key of an application.

    Empty where the router serves no application whose key is known.

    Raises:
        NotSwitchedError: The router does not answer.
    """
    again = Client.open(client.loaded.path)
    service = router(again)
    keys = [each["key"] for each in service.variables["litellm_applications"] if not each.get("models")]
    if not keys:
        return ""
    kind = next(each.kind for each in served(again) if each.name == name)
    address = f"http://{service.address}:{service.ports['http']}/v1"
    asked = {"url": address, "key": _value(again, keys[0]), "name": name, "kind": kind}
    program = shlex.join(["python3", "-c", _REMOTE.read_text(encoding="utf-8")])
    done = subprocess.run(
        ["ssh", "-F", str(again.ssh().config), "-o", "BatchMode=yes", service.host, program],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    if done.returncode:
        raise NotSwitchedError(
            f"Nobody answers to {name}",
            doing="asking the router",
            where=address,
            answer=done.stderr.strip()[-500:],
            remedy="It leads where it led before. See whether the engine answers: freehold verify.",
        )
    return str(json.loads(done.stdout)["by"])
