"""What was learned of weights when they were fetched first: ``inventory/<client>/models.lock.yml``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from freehold.catalog import models as catalog
from freehold.catalog.models import LockedForm
from freehold.catalog.services import argument_specs
from freehold.run.context import Client
from freehold.run.weights import ROLE, keepers, state
from freehold.upstream.hub import lock
from freehold.vault import write_private

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
        for model in client.whole_layout.models:
            if model.path is None:
                continue
            folder = model.path.rpartition("/")[0]
            newest = [entry for path, entry in there.items() if path.rpartition("/")[0] == folder]
            entry = there.get(model.path) or max(newest, key=lambda each: str(each["since"]), default=None)
            if entry:
                results.append({"id": model.id, "quantization": model.quantization, **entry})
    return learn_results(client, results)


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
