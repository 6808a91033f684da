"""Write an evidence pack into a folder of its own, and sign it."""

from __future__ import annotations

import json
import secrets as random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import escape

from freehold import signing
from freehold.errors import BadInputError, FreeholdError
from freehold.masking import SHORTEST
from freehold.run.context import Client
from freehold.run.evidence import live, page, pdf
from freehold.run.evidence.known import Known, Live
from freehold.run.evidence.pack import Pack, compose
from freehold.run.evidence.runs import past
from freehold.run.evidence.tables import as_json
from freehold.vault import write_private

FOLDER = "evidence"
"""In the client's folder; packs are kept there, none is removed."""
JSON = "evidence.json"


class LeakError(FreeholdError):
    """A secret would have been in the pack; nothing was written."""


@dataclass(frozen=True)
class Written:
    """A pack that was written."""

    folder: Path
    pack: Pack
    files: int

    def as_dict(self) -> dict[str, Any]:
        """The pack as plain data."""
        return {
            "folder": str(self.folder),
            "page": str(self.folder / "index.html"),
            "files": self.files,
            "signing_key": self.pack.fingerprint,
            "missing": [gap.as_dict() for gap in self.pack.gaps],
        }


def evidence(
    client: Client, out: Path | None = None, *, offline: bool = False, now: datetime | None = None
) -> Written:
    """Write the pack of a client: page, PDF, data and files, readable by their owner alone, and signed.

    Args:
        client: The client.
        out: The new folder; ``evidence/<time>`` in the client's folder when left out.
        offline: Ask no node.
        now: Its time, in UTC.

    Raises:
        BadInputError: The folder exists already, or the client's secrets do not open.
        LeakError: A secret stands in what would be written.
    """
    now = now or datetime.now(UTC).replace(microsecond=0)
    folder = out or _own(client.directory) / now.strftime("%Y-%m-%dT%H%M%SZ")
    if folder.exists():
        raise BadInputError(
            f"{folder} exists already",
            doing="writing the evidence",
            where=str(folder),
            remedy="Name a folder that does not exist yet: --out FOLDER",
        )
    fingerprint = signing.own_fingerprint(
        client.secrets
    )  # first: without the key nothing is asked and nothing written
    found: Live = live.offline(client) if offline else live.ask(client)
    known = Known(
        client, now, found, past(client.directory), _previous(client.directory, folder, fingerprint)
    )
    pack = compose(known, fingerprint)
    files = {**pack.files, JSON: as_json(pack.as_dict()), "index.html": page.html(pack).encode()}
    _refuse_secrets(files, client.secret_values())
    # Compressed, so that nobody could look into it; it shows what the page shows.
    files["evidence.pdf"] = pdf.pdf(pack)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{random.token_hex(4)}")
    try:
        new.mkdir(mode=0o700)
        for name, content in files.items():
            (new / name).parent.mkdir(mode=0o700, exist_ok=True)
            write_private(new / name, content)
        signing.sign_manifest(new, client.secrets)
        new.rename(folder)
    finally:
        if new.exists():
            shutil.rmtree(new)
    return Written(folder, pack, len(files))


def _own(directory: Path) -> Path:
    """The client's folder of packs, which git ignores wherever it lies: it holds names and mail addresses."""
    packs = directory / FOLDER
    packs.mkdir(mode=0o700, exist_ok=True)
    ignore = packs / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return packs


def _previous(directory: Path, folder: Path, fingerprint: str) -> Mapping[str, Any] | None:
    """The newest pack in the client's folder that is as the client's key signed it: what changed is held against it."""
    packs = sorted((path for path in (directory / FOLDER).glob("*") if path.is_dir()), reverse=True)
    for path in packs:
        if path == folder or path.name.startswith("."):
            continue
        try:
            signing.verify_manifest(path, fingerprint)
            told = json.loads((path / JSON).read_text(encoding="utf-8"))
            datetime.fromisoformat(told["made"])
        except (FreeholdError, OSError, ValueError, KeyError, TypeError):
            continue
        return dict(told)
    return None


def _refuse_secrets(files: Mapping[str, bytes], values: Mapping[str, str]) -> None:
    """No line of any secret may be in any file, also where JSON or HTML write its signs in another way.

    Raises:
        LeakError: One is.
    """
    for name, value in values.items():
        for line in value.splitlines():
            text = line.strip()
            if len(text) < SHORTEST or text.startswith("-----"):
                continue
            spellings = {text, json.dumps(text)[1:-1], str(escape(text))}
            for file, content in files.items():
                if any(spelling.encode() in content for spelling in spellings):
                    raise LeakError(
                        f"The secret {name} would stand in {file}",
                        doing="writing the evidence; nothing was written",
                        remedy="A value of the stack file, a text of a run's report or a commit repeats it: write it as "
                        f"{{{{ lookup('freehold.stack.secret', '{name}') }}}} there.",
                    )
