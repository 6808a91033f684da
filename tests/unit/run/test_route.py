"""What would happen to a question, the client's own cases, and the list of names that never leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Cli

from freehold.errors import BadInputError
from freehold.run import given, route, route_names
from freehold.run.context import Client
from freehold.vault import SecretsKeyError

Open = Callable[..., Client]

ACCOUNT = "Please pay to DE89 3704 0044 0532 0130 00"


def _routed(open_client: Open, **routing: object) -> Client:
    url = "http://10.86.0.1:8080/models/tiny.gguf"
    return open_client(
        services={
            "caddy": None,
            "litellm": None,
            "ollama": {"device": "cpu", "models": [{"name": "chat", "url": url, "sha256": "1" * 64}]},
        },
        groups=[{"name": "lawyers"}],
        users=[
            {"name": "Ada", "mail": "ada@acme.internal", "groups": ["lawyers"]},
            {"name": "Bob", "mail": "bob@acme.internal"},
        ],
        routing={
            "providers": {"anthropic": None},
            "cloud": {"claude": {"provider": "anthropic", "model": "x", "groups": ["lawyers"]}},
            **routing,
        },
    )


@pytest.fixture
def routed(open_client: Open) -> Client:
    """A client who lets some people use one cloud language model."""
    return _routed(open_client)


def test_what_would_happen_is_explained(routed: Client) -> None:
    clean = route.explain(routed, "What is the capital of France?")
    account = route.explain(routed, ACCOUNT, user="ada@acme.internal")

    assert (clean["route"], clean["model"], clean["user"]) == ("cloud", "claude", None)
    assert (account["route"], account["model"], account["reason"]) == ("local", "chat", "sensitive")
    assert "bank-account" in account["categories"]
    assert route.explain(routed, "Hello", user="Bob@acme.internal")["reason"] == "not_allowed"
    assert route.explain(routed, "Hello", model="gpt")["route"] == "refused"
    with pytest.raises(BadInputError, match=r"has no user eve@acme\.internal"):
        route.explain(routed, "Hello", user="eve@acme.internal")


def test_a_stack_that_lets_nothing_leave_has_nothing_to_explain(client: Client) -> None:
    with pytest.raises(route.NoRoutingError, match="may leave the building"):
        route.explain(client, "Hello")


CASES = """
- {name: harmless, text: Hello, user: ada@acme.internal, expect: cloud}
- {name: account, text: "IBAN DE89 3704 0044 0532 0130 00", user: ada@acme.internal, expect: local, because: bank-account}
- {name: stranger, text: Hello, expect: local, because: no_user}
- {name: file, text: Hello, attachments: true, user: ada@acme.internal, expect: local, because: attachments}
- {name: image, text: Hello, images: true, user: ada@acme.internal, expect: local, because: images}
- {name: passage, text: Hello, context: a passage, user: ada@acme.internal, expect: local}
- {name: no chat, text: Hello, session: null, user: ada@acme.internal, expect: local, because: no_session}
- {name: later, text: Hello, earlier_sensitive: true, user: ada@acme.internal, expect: local, because: conversation}
- {name: unknown, text: Hello, model: gpt, user: ada@acme.internal, expect: refused}
"""


def test_the_clients_cases_go_where_they_must(routed: Client) -> None:
    (routed.directory / route.CASES).write_text(CASES)

    assert [result.difference for result in route.run_cases(routed)] == [""] * 9


def test_a_case_that_goes_elsewhere_is_said(routed: Client, cli: Cli) -> None:
    wrong = CASES.replace("expect: cloud", "expect: local").replace("because: no_user", "because: images")
    (routed.directory / route.CASES).write_text(wrong)
    said = [result.difference for result in route.run_cases(routed) if result.difference]

    assert said[0].startswith("goes cloud (")
    assert said[1:] == ["goes local because of no_user, not of images"]
    done = cli("route", "cases", str(routed.loaded.path), "--json")
    assert done.code == 1
    assert [each["name"] for each in json.loads(done.out) if not each["ok"]] == ["harmless", "stranger"]


def test_what_only_presidio_can_say_is_left_to_the_router(open_client: Open, cli: Cli) -> None:
    client = _routed(open_client, sensitive={"presidio": {"languages": ["de"]}})
    hello = route.explain(client, "A letter to Erika Musterfrau")

    assert (hello["route"], hello["unread"]) == ("cloud", route.UNREAD)
    assert "unread" not in route.explain(client, ACCOUNT)
    said = " ".join(cli("route", "explain", str(client.loaded.path), "Hello").out.split())
    assert "Presidio, which runs on the router alone" in said
    (client.directory / route.CASES).write_text(
        "- {name: a name, text: Erika, user: ada@acme.internal, expect: local, because: person}\n"
        "- {name: a number, text: Erika, user: ada@acme.internal, expect: local, because: phone}\n"
    )
    first, second = route.run_cases(client)
    assert (first.difference, first.told["unread"]) == ("", route.UNREAD)
    assert second.difference.startswith("goes cloud")


@pytest.mark.parametrize(
    "text", ["- {name: x, expect: local}", "- {name: x, text: a, expect: moon}", "{", "[1]", "a: b"]
)
def test_cases_that_are_none(routed: Client, text: str) -> None:
    (routed.directory / route.CASES).write_text(text)
    with pytest.raises(route.CasesError, match="cannot be read"):
        route.run_cases(routed)


def test_an_empty_file_has_no_cases(routed: Client) -> None:
    (routed.directory / route.CASES).write_text("# none yet\n")
    assert route.run_cases(routed) == []


def test_names_are_kept_encrypted_and_never_leave(routed: Client, cli: Cli, tmp_path: Path) -> None:
    listed = tmp_path / "clients.txt"
    listed.write_text("Hans  Wurstinger\n\nKleeblatt Maschinenbau GmbH\nHans Wurstinger\n")
    path = str(routed.loaded.path)

    assert "2 new names" in cli("route", "names", "add", path, str(listed)).out
    assert "Wurstinger" not in (routed.directory / route_names.FILE).read_text()
    assert cli("route", "names", "show", path).out == "2 names\n"
    assert cli("route", "names", "show", path, "--all").out.splitlines() == [
        "Hans Wurstinger",
        "Kleeblatt Maschinenbau GmbH",
    ]
    assert route.explain(routed, "What does Herr Wurstinger want?")["categories"] == ["name"]
    listed.write_text("Hans Wurstinger\n")
    assert "1 names removed" in cli("route", "names", "remove", path, str(listed)).out
    assert route.explain(routed, "What does Herr Wurstinger want?")["route"] == "cloud"


@pytest.mark.parametrize("name", ["x", "12345", "a" * 201])
def test_what_is_no_name_is_refused_and_not_repeated(routed: Client, name: str) -> None:
    with pytest.raises(route_names.NamesError) as caught:
        route_names.add(routed, ["Hans Wurstinger", name])

    assert name not in str(caught.value)
    assert route_names.load(routed) == []


def test_the_router_gets_the_names_as_a_secret(routed: Client) -> None:
    route_names.add(routed, ["Hans Wurstinger"])
    routed.ensure_secrets()

    assert json.loads(routed.secrets.get(route_names.SECRET)) == ["Hans Wurstinger"]
    assert not route_names.deliver(routed)
    assert given.missing(routed) == ["litellm.cloud_anthropic"]


def test_another_key_opens_the_names_as_well(routed: Client, cli: Cli, tmp_path: Path) -> None:
    routed.ensure_secrets()
    route_names.add(routed, ["Hans Wurstinger"])
    before = (routed.directory / route_names.FILE).read_bytes()
    (tmp_path / "new.key").write_text("another key")

    said = cli("secrets", "rekey", str(routed.loaded.path), "--new-key-file", str(tmp_path / "new.key"))
    assert said.code == 0
    assert route_names.load(routed) == ["Hans Wurstinger"]
    (routed.directory / route_names.FILE).write_bytes(before)
    with pytest.raises(SecretsKeyError):
        route_names.load(routed)
