"""Section: the register of processing activities (GDPR Art. 30), from what is known anyhow."""

from __future__ import annotations

from typing import Any

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Block, Facts, Gap, Heading, Section
from freehold.run.evidence.governance import person
from freehold.run.evidence.known import Known
from freehold.run.evidence.leaving import EEA, cloud_providers
from freehold.run.evidence.retention import kept
from freehold.run.evidence.tables import as_csv, listed

_MEASURES = (
    "a container and a firewall of its own for each service; TLS at the gateway; logins; keys and passwords made by machine and "
    "kept encrypted (Ansible Vault); checks of every host by `freehold verify`"
)
_ACTIVITIES = {
    "openwebui": ("Chat with language models, also about documents", "what people write and upload"),
    "n8n": ("Workflows that run by themselves", "what workflows process"),
    "langfuse": (
        "Record of requests to language models",
        "questions and answers with user, time and language model",
    ),
    "prometheus": ("Operation: figures and alerts", "figures of machines; no persons"),
    "caddy": ("Operation: who called which address", "address of the caller, time, host name and path"),
}
"""By service: the activity, and the data that it processes in any case."""
_COLUMNS = (
    "activity",
    "purpose",
    "legal_basis",
    "people",
    "data",
    "recipients",
    "third_countries",
    "erased",
    "measures",
)


def section(known: Known) -> Section:
    """The section."""
    stated = known.stack.governance
    rows = [_row(known, role) for role in _ACTIVITIES if known.has(role)]
    blocks: list[Block] = [
        Facts(
            (
                ("Responsible (controller)", stated.controller or ""),
                ("Data protection officer", person(stated.data_protection_officer)),
            )
        )
    ]
    for row in rows:
        blocks += [Heading(row["activity"]), Facts(tuple((_LABELS[key], row[key]) for key in _COLUMNS[1:]))]
    return Section(
        "processing",
        "Register of processing activities",
        (law.REGISTER,),
        tuple(blocks),
        {
            "controller": stated.controller,
            "data_protection_officer": person(stated.data_protection_officer) or None,
            "activities": rows,
        },
        (
            Gap(
                "What the client does with answers outside the stack is not known here.",
                (law.REGISTER,),
                "the client's own register; processing-activities.csv can be copied into it",
            ),
        ),
        {"processing-activities.csv": as_csv(_COLUMNS, [[row[key] for key in _COLUMNS] for row in rows])},
    )


_LABELS = {
    "purpose": "Purpose",
    "legal_basis": "Legal basis",
    "people": "Whose data",
    "data": "Data",
    "recipients": "Recipients",
    "third_countries": "Countries outside the EEA",
    "erased": "Erased after",
    "measures": "Protection",
}


def _row(known: Known, role: str) -> dict[str, str]:
    stated = known.stack.governance
    activity, data = _ACTIVITIES[role]
    asks = role in {"openwebui", "n8n"}
    of_people = role not in {"prometheus", "caddy"}
    cloud: list[dict[str, Any]] = cloud_providers(known) if asks else []
    away = [
        f"{each['name']} (computes in: {each['region'] or 'not stated'}, seat: {each['seat'] or 'not known'})"
        for each in cloud
        if not {each["region"] or "?", each["seat"] or "?"} <= EEA
    ]
    times = [f"{row['what']}: {row['kept']}" for row in kept(known) if row["service"] == role]
    return {
        "activity": activity,
        "purpose": stated.purpose if asks else _own_purpose(role),
        "legal_basis": stated.legal_basis or "",
        "people": listed(stated.people) if of_people else "people who use the stack",
        "data": "; ".join(filter(None, (data, listed(stated.data) if of_people else ""))),
        "recipients": listed(
            [
                f"{each['name']}, by {each['agreement'] or 'an agreement that is not stated'}, for what is not sensitive"
                for each in cloud
            ]
        )
        or "nobody outside",
        "third_countries": listed(away) or "none",
        "erased": "; ".join(times) or "not known",
        "measures": _MEASURES,
    }


def _own_purpose(role: str) -> str:
    return {
        "langfuse": "to show what was asked and answered, to find faults, and to show it to an auditor",
        "prometheus": "to keep the stack working",
        "caddy": "to keep the stack working, and to find attacks",
    }[role]
