"""``freehold audit export``: the traces of a period as signed files, for an auditor who has nothing of ours.

The folder holds ``traces-<day>.jsonl`` (a line per trace), ``manifest.json`` (who, which period, which versions, counts, and whether
all calls of the router are in it), and what ``freehold.signing`` writes: checksums, an Ed25519 signature and the public key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from freehold import __version__, signing
from freehold.errors import BadInputError, FreeholdError
from freehold.run import audit_check, audit_host
from freehold.run.audit_check import Completeness, Period
from freehold.run.context import Client
from freehold.vault import write_private

MANIFEST = "manifest.json"
FORMAT = 1
METADATA = (
    "application",
    "status",
    "http_status",
    "model_asked",
    "model_digest",
    "model_revision",
    "answered_by",
    "latency_ms",
    "answer_cut",
    "router_call",
    "route_route",
    "route_model",
    "route_reason",
    "route_categories",
    "route_detectors",
    "route_sticky",
)
"""Names that the router's shipper gives; the API cuts values at 200 characters where a name is not listed."""
_REMOTE = Path(__file__).with_name("audit_export_remote.py")
_PATIENCE = 1800
"""Seconds that the traces of one day may take."""


@dataclass(frozen=True)
class Exported:
    """A folder that was written."""

    folder: Path
    traces: int
    files: int
    fingerprint: str
    """Of the key that signed it."""
    completeness: Completeness


def export(client: Client, wanted: Period, folder: Path) -> Exported:
    """Write the traces of a period, a file per day (UTC), with a manifest, and sign them with the client's key.

    Raises:
        BadInputError: The folder holds something already.
        NoRecordError: The stack has no router or no Langfuse.
        UnreachableError: A host does not answer.
        FreeholdError: Langfuse refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInputError(
            f"{folder} is not empty",
            doing="exporting traces",
            remedy="Name a folder that does not exist yet.",
        )
    found = audit_check.check(client, wanted)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    files = []
    for day in _days(wanted):
        span = {"from": _text(day.since), "to": _text(day.until), "metadata": METADATA}
        lines = audit_host.of_langfuse(
            client, _REMOTE, span, doing=f"exporting the traces of {day.since:%Y-%m-%d}", timeout=_PATIENCE
        )
        if lines:
            content = "".join(f"{line}\n" for line in lines).encode()
            name = f"traces-{day.since:%Y-%m-%d}.jsonl"
            write_private(folder / name, content)
            files.append({"name": name, "traces": len(lines), "sha256": hashlib.sha256(content).hexdigest()})
    traces = sum(int(str(file["traces"])) for file in files)
    manifest = {
        "format": FORMAT,
        "client": client.stack.client,
        "from": _text(wanted.since),
        "to": _text(wanted.until),
        "made": _text(datetime.now(UTC)),
        "freehold": __version__,
        "traces": traces,
        "files": files,
        "completeness": found.as_dict(),
    }
    write_private(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    fingerprint = signing.sign_manifest(folder, client.secrets)
    return Exported(folder, traces, len(files), fingerprint, found)


def verify(folder: Path, trusted: bytes | str | None = None) -> tuple[signing.Verified, dict[str, Any]]:
    """Check a folder without any host: nothing changed since it was signed, and the manifest tells of just these files.

    Args:
        folder: The folder.
        trusted: The public key (PEM) or the fingerprint that must have signed it; the folder's own key when left out.

    Returns:
        What was checked, and the manifest.

    Raises:
        ManifestError: It is not what was signed.
        BadInputError: It is no such folder.
    """
    found = signing.verify_manifest(folder, trusted)
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        told = {file["name"]: (file["traces"], file["sha256"]) for file in manifest["files"]}
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{folder} is no export of traces",
            doing="checking an export",
            where=str(folder / MANIFEST),
            answer=str(error),
            remedy="Name a folder that `freehold audit export` has written.",
        ) from error
    there = {path.name: _told(path) for path in folder.glob("*.jsonl")}
    if there != told:
        raise FreeholdError(
            "The manifest tells of other files than there are",
            doing="checking an export",
            where=str(folder),
            answer=", ".join(
                sorted(name for name in there.keys() | told if there.get(name) != told.get(name))
            ),
            remedy="Do not rely on it: take another copy.",
        )
    return found, manifest


def _told(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return content.count(b"\n"), hashlib.sha256(content).hexdigest()


def _days(wanted: Period) -> list[Period]:
    """The period in days of UTC."""
    parts, start = [], wanted.since.astimezone(UTC)
    while start < wanted.until:
        midnight = datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(days=1)
        parts.append(Period(start, min(midnight, wanted.until.astimezone(UTC))))
        start = midnight
    return parts


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
