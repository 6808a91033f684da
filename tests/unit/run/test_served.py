"""Since when language models are served, and the reminder that there may be better ones."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from freehold.errors import BadInputError
from freehold.layout import aliases
from freehold.layout.aliases import Alias
from freehold.run import served
from freehold.run.context import Client
from freehold.run.served import Serving

STACK = """
client: acme
domain: acme.internal
proxmox: {endpoint: "https://pve:8006"}
network: {subnet: 10.20.0.0/24}
review_months: 3
services:
  litellm:
  vllm: {device: cpu, served_name: assistant}
  vllm-2: {device: cpu, served_name: candidate}
"""


@pytest.fixture
def client(tmp_path: Path) -> Client:
    folder = tmp_path / "inventory" / "acme"
    folder.mkdir(parents=True)
    (folder / "stack.yml").write_text(STACK)
    return Client.open(folder / "stack.yml")


def since(client: Client) -> dict[str, tuple[str, date]]:
    return {name: (each.model, each.since) for name, each in served.load(client.directory).items()}


def test_a_name_keeps_its_day_as_long_as_it_leads_to_the_same(client: Client) -> None:
    first, later = date(2026, 1, 31), date(2026, 3, 1)

    served.note(client, first)
    served.note(client, later)

    assert since(client) == {"assistant": ("assistant", first), "candidate": ("candidate", first)}


def test_a_name_that_was_promoted_counts_from_that_day(client: Client) -> None:
    first, later = date(2026, 1, 31), date(2026, 3, 1)
    served.note(client, first)
    target = Alias(model="candidate", engine="vllm-2", since=later)
    (client.directory / aliases.FILE).write_text(aliases.dump({"assistant": target}))

    served.note(Client.open(client.loaded.path), later)

    assert since(client) == {"assistant": ("candidate", later), "candidate": ("candidate", first)}


@pytest.mark.parametrize(
    ("begun", "today", "old"),
    [
        (date(2026, 1, 31), date(2026, 4, 30), False),
        (date(2026, 1, 31), date(2026, 5, 1), True),
        (date(2026, 1, 15), date(2026, 4, 15), True),
        (date(2026, 1, 15), date(2026, 4, 14), False),
        (date(2025, 11, 21), date(2026, 2, 21), True),
    ],
)
def test_old_is_what_was_served_for_so_many_months(begun: date, today: date, old: bool) -> None:
    serving = {"assistant": Serving(model="qwen3-8b", engine="vllm", since=begun)}

    assert bool(served.overdue(serving, 3, today)) == old


def test_the_reminder_says_what_is_old(client: Client) -> None:
    served.note(client, date(2026, 1, 1))

    assert served.reminders(client, date(2026, 3, 31)) == []
    first, second = served.reminders(client, date(2026, 4, 1))
    assert "assistant is served since 01 January 2026, for 3 months or more" in first.text
    assert second.name == "candidate"


def test_what_is_not_served_any_more_is_not_old(client: Client) -> None:
    served.note(client, date(2020, 1, 1))
    path = client.directory / served.FILE
    path.write_text(path.read_text().replace("candidate:", "gone:", 1))

    assert [old.name for old in served.reminders(client, date(2026, 4, 1))] == ["assistant"]


def test_without_a_run_nothing_is_old(client: Client) -> None:
    assert served.reminders(client, date(2099, 1, 1)) == []


def test_a_file_that_is_wrong_says_where(client: Client) -> None:
    (client.directory / served.FILE).write_text("assistant: {model: x}\n")

    with pytest.raises(BadInputError, match="cannot be read") as caught:
        served.load(client.directory)
    assert caught.value.where == str(client.directory / served.FILE)


def test_the_check_warns(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from freehold.run import check

    served.note(client, date(2020, 1, 1))

    findings: list[Any] = list(check._old_models(client))
    assert {finding.status for finding in findings} == {"warning"}
    assert "freehold models try acme" in findings[0].remedy


def test_engines_that_the_client_lists_at_the_router_count_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "inventory" / "acme"
    folder.mkdir(parents=True)
    engine = "{name: elsewhere, url: http://10.20.0.9/v1, models: [{name: chat-of-others}]}"
    path = folder / "stack.yml"
    path.write_text(STACK.replace("  litellm:\n", f"  litellm: {{engines: [{engine}]}}\n"))
    client = Client.open(path)

    assert served.leads(client.whole_layout, client.directory) == {
        "chat-of-others": aliases.Target(model="chat-of-others", engine="elsewhere")
    }
