"""Change of a language model: let a name lead to a candidate that was tried (:mod:`freehold.run.model_trial`), and go back.

``promote`` and ``back`` write ``aliases.yml`` and give the router its new list, which it takes over
between one request and the next (``roles/litellm``); no engine and no other service is touched.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from freehold.errors import BadInputError, FreeholdError
from freehold.layout import aliases, variables
from freehold.layout.aliases import Alias, Target
from freehold.layout.types import ServicePlacement
from freehold.run.context import Client
from freehold.run.evaluation import compare
from freehold.run.stages import Sink
from freehold.run.up import Options, up
from freehold.vault import write_private

ROUTER = "litellm"
_REMOTE = Path(__file__).with_name("model_change_remote.py")


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


def value(client: Client, text: str) -> str:
    """The value of a variable that may be the lookup of a secret."""
    names = variables.looked_up(text)
    return client.secrets.get(names.pop()) if names else text


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
    asked = {"url": address, "key": value(again, keys[0]), "name": name, "kind": kind}
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
