"""What was learned of weights when they were fetched first: ``inventory/<client>/models.lock.yml``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from freehold import ssh
from freehold.catalog import models as catalog
from freehold.catalog.models import LockedForm, Quantization
from freehold.catalog.services import argument_specs
from freehold.errors import FreeholdError
from freehold.run.context import Client
from freehold.run.weights import ROLE, keepers, state
from freehold.upstream.hub import lock
from freehold.vault import write_private

LEARNED = "/var/lib/freehold/ollama-digests.json"
"""Where Ollama's host notes the digests of what it pulled (collection, ``ollama_models``)."""
_HEAD = """\
# Written by Freehold: what was learned of weights when they were fetched first. From then on nothing else is taken.
# To take a newer revision, name it in models.yml, or remove the entry here.
"""


def learn(client: Client) -> list[str]:
    """Lock what the nodes and the engines know of the stack's language models; the ids that are new in the lock.

    Raises:
        UnreachableError: A host does not answer.
        FreeholdError: It cannot say what it has.
    """
    results = []
    for keeper in keepers(client.layout):  # with --only, others may not be there yet
        there = {entry["path"]: entry for entry in state(client, keeper)["weights"]}
        for model in client.layout.models:
            if model.path is None:
                continue
            folder = model.path.rpartition("/")[0]
            newest = [entry for path, entry in there.items() if path.rpartition("/")[0] == folder]
            entry = there.get(model.path) or max(newest, key=lambda each: str(each["since"]), default=None)
            if entry:
                results.append({"id": model.id, "quantization": model.quantization, **entry})
    return sorted({*learn_results(client, results), *write(client.directory, _pulled(client))})


def _pulled(client: Client) -> dict[tuple[str, str], LockedForm]:
    """Digests of what engines pulled themselves, and nobody had pinned."""
    unknown = [model for model in client.layout.models if model.ollama and not model.digest]
    found = {}
    for engine in sorted({model.engine for model in unknown}):
        host = client.layout.service(engine).host
        command = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", host, f"cat {LEARNED}"]
        answer = ssh.run(command, timeout=60, doing=f"asking {host} for digests of language models")
        digests = json.loads(answer.stdout) if answer.returncode == 0 else {}
        for model in unknown:
            tagged = model.served if ":" in model.served.rpartition("/")[2] else f"{model.served}:latest"
            if model.engine == engine and (digest := digests.get(tagged, digests.get(model.served))):
                found[model.id, model.quantization] = LockedForm(digest=digest)
    return found


def before_a_run(client: Client) -> tuple[list[str], FreeholdError | None]:
    """Lock the revisions that nobody knows yet, so that engines find their weights under the same path from the first run on.

    Returns:
        The ids that are new in the lock, and why the hub did not answer this machine; the nodes ask it themselves then.
    """
    unknown = [
        {"id": model.id, "quantization": model.quantization, "repository": model.repository, "revision": None}
        for model in client.layout.models
        if model.path and model.repository and model.revision is None
    ]
    if not unknown or client.stack.sources.mirror:
        return [], None
    try:
        learned = look_up(client, unknown, lambda _: None)
    except FreeholdError as error:
        return [], error
    if learned:
        client.lay_out_again()
    return learned, None


def look_up(client: Client, wanted: Iterable[Mapping[str, Any]], report: Callable[[str], None]) -> list[str]:
    """Lock revisions and checksums as the hub names them, from this machine; the ids that are new in the lock.

    Args:
        client: The client.
        wanted: What :func:`freehold.run.models.request` gives.
        report: Called with the name of each file that is read for its checksum.

    Raises:
        FetchError: The hub does not give something.
        BadInputError: It has no weights that are taken.
    """
    hub = next((service.variables.get("weights_hub") for service in keepers(client.whole_layout)), None)
    address = str(hub or argument_specs(ROLE)["weights_hub"]["default"])
    learned = {}
    for model in wanted:
        if not model["repository"]:
            continue  # its files have addresses and checksums of their own
        found = lock(address, model["repository"], model["revision"], report)
        learned[model["id"], model["quantization"]] = found
    return write(client.directory, learned)


def learn_results(client: Client, results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lock what was learned of weights; the ids whose lock changed."""
    learned = {
        (str(result["id"]), str(result["quantization"])): LockedForm.model_validate(
            {
                "repository": result["repository"],
                "revision": result["revision"],
                "files": [{key: file[key] for key in ("name", "size", "sha256")} for file in result["files"]],
            }
        )
        for result in results
        if result["revision"]
    }
    return write(client.directory, learned)


def write(directory: Path, learned: Mapping[tuple[str, str], LockedForm]) -> list[str]:
    """Lay what was learned over a client's lock, as a whole and in order; the ids whose entry changed.

    What the catalogue and the client's own entries know anyhow is not written.

    Raises:
        FreeholdError: A checksum is another one than is known of the same revision.
    """
    below = catalog.load(directory)
    own = {name: dict(forms) for name, forms in catalog.load_lock(directory).items()}
    changed = []
    for (name, form), value in sorted(learned.items()):
        entry = below.get(name)
        if entry is None or form not in entry.quantizations:
            continue
        if catalog.locked(entry, {form: value}) == entry or own.get(name, {}).get(form) == value:
            continue
        _refuse_others(name, entry.quantizations[form], value)
        own.setdefault(name, {})[form] = value
        changed.append(name)
    if changed:
        document = {
            name: {
                form: own[name][form].model_dump(mode="json", exclude_none=True, exclude_defaults=True)
                for form in sorted(own[name])
            }
            for name in sorted(own)
        }
        path = directory / catalog.LOCK
        write_private(path, (_HEAD + yaml.safe_dump(document, sort_keys=False, width=1000)).encode())
        path.chmod(0o644)
    return sorted(set(changed))


def _refuse_others(name: str, known: Quantization, value: LockedForm) -> None:
    """A checksum that is known stays: the host of the weights must not change what is held against it."""
    if value.revision != known.revision:
        return
    told = {file.name: file.sha256 for file in value.files}
    for file in known.files:
        if file.sha256 and told.get(file.name, file.sha256) != file.sha256:
            raise FreeholdError(
                f"{file.name} of {name} has another checksum than is known of this revision",
                doing="locking what was learned of weights",
                answer=f"known: {file.sha256}; told: {told[file.name]}",
                remedy="Somebody changed the file, or what is told of it: find out who before it is served.",
            )
