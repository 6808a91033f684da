"""What the licence gate refuses, and what it leaves to a person."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.catalog.models import LanguageModel
from freehold.catalog.versions import Artifact
from freehold.layout import licence_gate
from freehold.layout.licence_gate import Verdict
from freehold.schema.stack import Stack

from .conftest import stack


def model(licence: str | None) -> dict[str, LanguageModel]:
    """A catalogue of one language model."""
    entry = {
        "title": "Some Model",
        "family": "some",
        "provider": "Some",
        "jurisdiction": "FR",
        "architecture": {},
        "licence": licence,
        "quantizations": {
            "bf16": {"repository": "some/model", "engines": ["vllm"], "source": "https://example.org"}
        },
        "sources": {},
    }
    return {"some-model": LanguageModel.model_validate({"id": "some-model", **entry})}


def service(licence: str) -> dict[str, list[Artifact]]:
    """What is installed of one service."""
    return {
        "n8n": [
            Artifact(
                version="1",
                source="npm",
                licence=licence,
                upstream="https://x",
                package="n8n",
                lock="n8n/lock",
            )
        ]
    }


def asking(licence_accepted: bool = False, **use: Any) -> Stack:
    """A stack that serves the model, with a declared use."""
    return stack(use=use, models={"some-model": {"licence_accepted": licence_accepted}})


def judged(stack: Stack, licence: str | None) -> list[Verdict]:
    return list(licence_gate.verdicts(stack, model(licence), {}))


def refusals(stack: Stack, licence: str | None) -> list[str]:
    return [str(problem) for problem in licence_gate.check(stack, model(licence), {})]


@pytest.mark.parametrize("licence", ["Apache-2.0", "MIT", "CC-BY-4.0", "Llama-3.1-Community", "Gemma"])
def test_a_free_licence_says_nothing_against_an_office_in_germany(licence: str) -> None:
    assert judged(asking(users=15, region="DE"), licence) == []


@pytest.mark.parametrize("region", ["DE", "FR", "SK", "EU"])
def test_llama_4_is_refused_in_the_european_union(region: str) -> None:
    [refusal] = refusals(asking(region=region), "Llama-4-Community")
    assert refusal.startswith(
        f"models.some-model: Some Model may not be used in {region}: Llama 4 Community License"
    )
    assert "a company with a principal place of business in, the European Union" in refusal
    assert "Serve another language model" in refusal


@pytest.mark.parametrize("region", ["CH", "GB", "US", "NO"])
def test_llama_4_is_let_through_elsewhere(region: str) -> None:
    assert refusals(asking(region=region), "Llama-4-Community") == []


@pytest.mark.parametrize(
    ("licence", "most"), [("Llama-3.3-Community", 700_000_000), ("Qwen-2024", 100_000_000)]
)
def test_the_number_of_users_is_held_against_the_limit(licence: str, most: int) -> None:
    assert refusals(asking(users=most), licence) == []
    [refusal] = refusals(asking(users=most + 1), licence)
    assert f"by {most + 1} people" in refusal


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "Mistral-Research-0.1", "Qwen-Research-2024"])
def test_a_business_may_not_use_what_is_not_for_business(licence: str) -> None:
    [refusal] = refusals(asking(), licence)
    assert "may not be used by a business" in refusal
    assert refusals(asking(commercial=False), licence) == []


def test_an_unknown_licence_is_refused_until_the_client_has_read_it() -> None:
    for licence in (None, "Some Licence"):
        [refusal] = refusals(asking(), licence)
        assert "models.some-model.licence_accepted: true" in refusal
        assert judged(asking(licence_accepted=True), licence) == []


def test_having_read_it_does_not_allow_what_a_known_licence_forbids() -> None:
    assert len(refusals(asking(licence_accepted=True), "CC-BY-NC-4.0")) == 1


def test_a_limit_that_the_stack_says_nothing_of_is_left_to_a_person() -> None:
    [verdict] = judged(asking(), "Mistral-Modified-MIT")
    assert not verdict.refused
    assert "$20 million" in verdict.text


def test_who_offers_it_to_customers_is_told_what_to_show_and_to_pass_on() -> None:
    [llama] = judged(asking(customers=True), "Llama-3.1-Community")
    assert '"Built with Llama"' in llama.text
    [gemma] = judged(asking(customers=True), "Gemma")
    assert "enforceable provision" in gemma.text


def test_n8n_is_refused_for_customers_alone() -> None:
    assert list(licence_gate.check(stack(use={"customers": False}), {}, service("SUL-1.0"))) == []
    [problem] = licence_gate.check(stack(use={"customers": True}), {}, service("SUL-1.0"))
    assert problem.path == ("services", "n8n")
    assert "your own internal business purposes" in problem.message


def test_open_webui_is_never_refused_because_its_name_stays() -> None:
    crowd = stack(use={"users": 5000, "customers": True})
    assert list(licence_gate.verdicts(crowd, {}, service("Open-WebUI"))) == []


def test_a_services_own_agreement_is_left_to_a_person() -> None:
    [verdict] = licence_gate.verdicts(stack(use={"customers": True}), {}, service("our contract of 2026"))
    assert not verdict.refused


def test_the_drivers_clause_on_data_centres_is_shown_once_for_each_card() -> None:
    cards = [
        {"pci": f"0000:0{n}:00.0", "card": card} for n, card in enumerate(("rtx-4090", "rtx-4090", "l40s"), 1)
    ]
    [verdict] = licence_gate.verdicts(stack(nodes={"pve": {"gpus": cards}}), {}, {})
    assert not verdict.refused
    assert verdict.path == ("nodes", "pve", "gpus", 0)
    assert "not licensed for datacenter deployment" in verdict.text
