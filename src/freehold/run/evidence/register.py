"""Section: the register of language models, those of the client's own engines and those of cloud providers."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

from freehold.catalog import licences
from freehold.layout import aliases
from freehold.layout.types import ServedModel
from freehold.run import served
from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Gap, Grid, Section, Text
from freehold.run.evidence.known import Known
from freehold.run.evidence.tables import as_csv, as_json
from freehold.run.served import Serving

_COLUMNS = (
    "name",
    "id",
    "title",
    "kind",
    "engine",
    "since",
    "provider",
    "jurisdiction",
    "repository",
    "revision",
    "quantization",
    "digest",
    "files_checksum",
    "licence",
    "licence_status",
    "context",
)


def section(known: Known) -> Section:
    """The section."""
    since = served.load(known.directory)
    rows = [_row(known, model, since.get(model.name)) for model in known.layout.models]
    rows += _unlisted(known, since, {row["name"] for row in rows})
    cloud: list[dict[str, Any]] = [
        {
            "name": name,
            "provider": model.provider,
            "model": model.model,
            "region": getattr(known.stack.routing.providers.get(model.provider), "region", None),
            "groups": list(model.groups),
            "since": None,
        }
        for name, model in known.stack.routing.cloud.items()
    ]
    led = aliases.load(known.directory)
    data = {
        "local": rows,
        "cloud": cloud,
        "names_led_elsewhere": {name: alias.model_dump(mode="json") for name, alias in led.items()},
    }
    blocks: list[Text | Grid] = [
        Text(
            "What the client's own engines serve. Weights are checked against these checksums before they are loaded."
        ),
        Grid(
            ("Name", "Language model", "Provider", "Weights", "Licence", "Engine, since"),
            tuple(_shown(row) for row in rows),
            (13, 17, 15, 29, 14, 12),
        ),
    ]
    if led:
        blocks.append(
            Grid(
                ("Name", "Leads to", "Since", "Before"),
                tuple(
                    (
                        name,
                        f"{alias.model} on {alias.engine}",
                        alias.since.isoformat(),
                        f"{alias.previous.model} on {alias.previous.engine}" if alias.previous else "",
                    )
                    for name, alias in led.items()
                ),
                (22, 32, 14, 32),
                title="Names that were promoted to another language model",
            )
        )
    if cloud:
        blocks += [
            Grid(
                ("Name", "Provider", "Language model", "Computes in", "Groups", "Since"),
                tuple(
                    (
                        each["name"],
                        each["provider"],
                        each["model"],
                        each["region"] or "not stated",
                        ", ".join(each["groups"]) or "nobody",
                        "not recorded",
                    )
                    for each in cloud
                ),
                (14, 16, 28, 12, 18, 12),
                title="Language models of cloud providers",
            ),
            Text(
                "What a provider serves under a name may change: no digest is known of it. Whether its terms allow the "
                "client's use is for the client to judge."
            ),
        ]
    return Section(
        "models",
        "Register of language models",
        (law.DEPLOYERS, law.PRINCIPLES, law.SECURITY),
        tuple(blocks),
        data,
        tuple(_gaps(known, rows)),
        {
            "language-models.csv": as_csv(_COLUMNS, [[row[key] for key in _COLUMNS] for row in rows]),
            "language-models.json": as_json(data),
        },
    )


def _row(known: Known, model: ServedModel, serving: Serving | None) -> dict[str, Any]:
    entry = known.models.get(model.id)
    return {
        "name": model.name,
        "id": model.id,
        "title": model.title,
        "kind": model.kind,
        "engine": model.engine,
        "since": _since(model, serving),
        "provider": entry.provider if entry else None,
        "jurisdiction": entry.jurisdiction if entry else None,
        "repository": model.repository or model.ollama or (model.files[0].url if model.files else None),
        "revision": model.revision,
        "quantization": model.quantization,
        "digest": model.digest,
        "files_checksum": _sums(model),
        "files": [file.model_dump(mode="json", exclude_none=True) for file in model.files],
        "licence": model.licence,
        "licence_title": _title(model.licence),
        "licence_status": _status(known, model),
        "context": model.context,
    }


def _unlisted(known: Known, since: dict[str, Serving], listed: set[str]) -> list[dict[str, Any]]:
    """What engines serve by their own settings, past the stack's list: little is known of it."""
    rows = []
    for name, target in served.leads(known.layout, known.directory).items():
        if name in listed or any(model.id == target.model for model in known.layout.models):
            continue
        at = since.get(name)
        rows.append(
            dict.fromkeys((*_COLUMNS, "licence_title"))
            | {
                "name": name,
                "id": target.model,
                "title": target.model,
                "engine": target.engine,
                "since": at.since.isoformat() if at and at.model == target.model else None,
                "files": [],
                "licence_status": "not known: the stack's `models` do not list it",
            }
        )
    return rows


def _since(model: ServedModel, serving: Serving | None) -> str | None:
    known: date | None = serving.since if serving and serving.model == model.id else None
    return known.isoformat() if known else None


def _sums(model: ServedModel) -> str | None:
    """One checksum over the list of files, as ``sha256sum`` would print it; none while a file's own is unknown."""
    if not model.files or not all(file.sha256 for file in model.files):
        return None
    text = "".join(
        f"{file.sha256}  {file.name}\n" for file in sorted(model.files, key=lambda each: each.name)
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _title(licence: str | None) -> str | None:
    text = licences.load().get(licence or "")
    return text.title if text else None


def _status(known: Known, model: ServedModel) -> str:
    said = [verdict for verdict in known.verdicts if verdict.path == ("models", model.id)]
    if not said:
        return "nothing in it forbids the declared use"
    return "; ".join(
        f"{'forbids the use' if verdict.refused else 'a person has to judge'}: {verdict.text}"
        for verdict in said
    )


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    pinned = row["digest"] or row["revision"]
    files = f", {len(row['files'])} files" if row["files"] else ""
    checked = f"checksums {row['files_checksum']}" if row["files_checksum"] else ""
    weights = [
        row["repository"] or "source not known",
        f"{row['quantization'] or ''}{files}".strip(", "),
        ("digest " if row["digest"] else "revision ") + pinned if pinned else "",
        checked or ("" if pinned else "not locked yet"),
    ]
    return (
        row["name"],
        row["title"] + (f" ({row['id']})" if row["id"] != row["title"] else ""),
        f"{row['provider'] or 'not known'}, {row['jurisdiction'] or 'country not known'}",
        "\n".join(filter(None, weights)),
        f"{row['licence'] or 'not known'}: {row['licence_status']}",
        f"{row['engine']}, {row['since'] or 'not served yet'}",
    )


def _gaps(known: Known, rows: list[dict[str, Any]]) -> list[Gap]:
    gaps = []
    for row in rows:
        if not row["licence"]:
            gaps.append(
                Gap(
                    f"The licence of the language model {row['id']} is not known.",
                    (law.DEPLOYERS,),
                    f"list it under `models` in the stack file, or say its licence in `models.yml` ({known.name})",
                )
            )
        if not (row["digest"] or row["files_checksum"]):
            gaps.append(
                Gap(
                    f"The weights of {row['id']} are not locked: no checksum of them is known.",
                    (law.SECURITY, law.DEPLOYERS),
                    f"`freehold models lock {known.name}`, or the first `freehold up {known.name}`",
                )
            )
        if not row["since"]:
            gaps.append(
                Gap(
                    f"Since when {row['name']} is served is not recorded.",
                    (law.DEPLOYERS,),
                    f"`freehold up {known.name}` notes it",
                )
            )
    if not rows:
        gaps.append(
            Gap(
                "No language model is listed.",
                (law.DEPLOYERS,),
                "`models` in the stack file; `freehold models list` shows them",
            )
        )
    return gaps
