"""Section: what the client states of purpose, risk, oversight and responsibility."""

from __future__ import annotations

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Facts, Gap, Section, Text
from freehold.run.evidence.known import Known
from freehold.schema.stack import Done, Person

_MAY_STOP = (
    "Besides what is stated here, these always stop it: the administrator of the node stops a container or all of them in "
    "Proxmox VE; `freehold down` removes the stack; a language model that is taken out of the stack file is no longer served "
    "after `freehold up`."
)
_WANTED = {
    "purpose": ("what the stack is used for", (law.PRINCIPLES, law.REGISTER)),
    "controller": ("who is responsible for the processing (controller)", (law.REGISTER,)),
    "responsible": ("who answers for the stack", (law.OVERSIGHT, law.DEPLOYERS)),
    "data_protection_officer": (
        "the data protection officer, or the word that none is needed",
        (law.REGISTER,),
    ),
    "legal_basis": ("why personal data may be processed", (law.PRINCIPLES,)),
    "people": ("whose personal data is processed", (law.REGISTER,)),
    "data": ("which kinds of personal data are processed", (law.REGISTER,)),
    "risk_class": ("the class of risk", (law.ANNEX_III,)),
    "risk_reason": ("why it is of that class", (law.ANNEX_III,)),
    "oversight": ("how people check the answers", (law.OVERSIGHT, law.DEPLOYERS)),
    "stop": ("who may stop it", (law.OVERSIGHT,)),
    "users_informed": ("when people were told that they use an AI system", (law.TRANSPARENCY, law.DEPLOYERS)),
    "training": ("when its users last learned what it can and cannot do", (law.LITERACY,)),
    "impact_assessment": ("the data protection impact assessment, or why none is needed", (law.ASSESSMENT,)),
}
"""Keys of ``governance``: in words, and the articles that ask."""


def section(known: Known) -> Section:
    """The section."""
    stated = known.stack.governance
    facts = (
        ("Purpose", stated.purpose),
        ("Responsible for the processing (controller)", stated.controller or ""),
        ("Answers for the stack", person(stated.responsible)),
        ("Data protection officer", person(stated.data_protection_officer)),
        ("Legal basis", stated.legal_basis or ""),
        ("Class of risk, as the client found it", stated.risk_class or ""),
        ("Why", stated.risk_reason),
        ("Human oversight", stated.oversight),
        ("Who may stop it", stated.stop),
        ("People were informed", _done(stated.users_informed)),
        ("People were trained", _done(stated.training)),
        ("Data protection impact assessment", _done(stated.impact_assessment)),
    )
    gaps = tuple(
        Gap(f"Not stated: {what}.", serves, f"`governance.{key}` in the stack file")
        for key, (what, serves) in _WANTED.items()
        if not getattr(stated, key)
    )
    return Section(
        "governance",
        "Purpose, risk and oversight",
        (
            law.ANNEX_III,
            law.LITERACY,
            law.OVERSIGHT,
            law.DEPLOYERS,
            law.TRANSPARENCY,
            law.PRINCIPLES,
            law.ASSESSMENT,
        ),
        (
            Text("The client states this in its stack file. Freehold shows it and judges nothing."),
            Facts(facts),
            Text(_MAY_STOP),
        ),
        stated.model_dump(mode="json"),
        gaps,
    )


def person(named: Person | None) -> str:
    """A person in words; empty where nobody is named."""
    if named is None:
        return ""
    return f"{named.name}, {named.mail}" if named.mail else named.name


def _done(done: Done | None) -> str:
    return f"{done.day.isoformat()}: {done.where}" if done else ""
