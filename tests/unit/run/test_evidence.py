"""Evidence packs of the example law firm and of the lab: complete in themselves, honest, signed, and without secrets."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import stat
import subprocess
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from tests.conftest import Cli

from freehold import secrets, vault
from freehold.catalog.services import argument_specs
from freehold.errors import BadInputError
from freehold.events import Event, Stage, Status
from freehold.run.context import Client
from freehold.run.evidence.articles import ARTICLES, BY_NAME
from freehold.run.evidence.known import Live
from freehold.run.evidence.pack import CAVEAT
from freehold.run.evidence.tables import as_csv
from freehold.run.evidence.write import LeakError, Written, evidence
from freehold.run.folder import RunFolder
from freehold.signing import ManifestError, verify_manifest

INVENTORY = Path(__file__).parents[3] / "inventory"
NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
CLOUD = {
    "routing": {
        "providers": {
            "anthropic": {"region": "US"},
            "mistral": {"region": "FR", "agreement": "DPA of 2026-03-01"},
        },
        "cloud": {
            "claude": {"provider": "anthropic", "model": "claude-sonnet-4-5", "groups": ["lawyers"]},
            "le-chat": {"provider": "mistral", "model": "mistral-large-latest"},
        },
    }
}
GOVERNANCE = {
    "governance": {
        "purpose": "Drafts & <summaries>.",
        "controller": "Example Law Firm, Berlin",
        "responsible": {"name": "Łukasz Żółć", "mail": "zolc@example-law-firm.de"},
        "risk_class": "limited",
        "training": {"day": "2026-03-01", "where": "list no. 3"},
    }
}
JUNIT = """<testsuites><testsuite name="pytest">
<testcase classname="test_base" name="test_no_unit_failed[caddy]" time="0.1">
<properties><property name="host" value="caddy"/></properties></testcase>
<testcase classname="test_litellm" name="test_nothing_sensitive_reaches_the_cloud[litellm]" time="0.1">
<properties><property name="host" value="litellm"/></properties></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clients of the repository, with all their secrets: those are made once, since they take a while."""
    root = tmp_path_factory.mktemp("clients")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _apart(monkeypatch, root)
        for name in ("example-law-firm", "lab"):
            folder = root / "inventory" / name
            folder.mkdir(parents=True)
            for file in ("stack.yml", "models.yml"):
                if (INVENTORY / name / file).exists():
                    shutil.copy(INVENTORY / name / file, folder)
            Client.open(folder / "stack.yml").ensure_secrets()
    return root


def _apart(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    for name in (vault.KEY_FILE, vault.KEY_VALUE, vault.KEY_COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "config"))


@pytest.fixture(autouse=True)
def _own_keys(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of these tests lie apart from those of the person who runs them, and git reads no settings of theirs."""
    shutil.copytree(made / "inventory", tmp_path / "inventory")
    _apart(monkeypatch, made)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def opened(tmp_path: Path, name: str, **more: Any) -> Client:
    """A copy of a client of the repository, with more keys in its stack."""
    path = tmp_path / "inventory" / name / "stack.yml"
    if more:
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **more}, sort_keys=False))
    return Client.open(path)


def ran(client: Client, verb: str, *events: Event, junit: str = "", at: str = "") -> Path:
    """A run folder of the past."""
    folder = RunFolder(client.directory, verb)
    for event in events:
        folder.record(event)
    if junit:
        (folder.path / "proof.xml").write_text(junit)
        (folder.path / "proof.html").write_text("<!doctype html><title>Proof</title>")
    return folder.path.rename(folder.path.with_name(f"{at}-{verb}")) if at else folder.path


def written(client: Client, *, whole: bool = False, **more: Any) -> Written:
    """A pack; its PDF, which takes seconds, is made only where a test is about it."""
    with nullcontext() if whole else patch("freehold.run.evidence.pdf.pdf", return_value=b"%PDF-"):
        return evidence(client, **{"now": NOW, "offline": True, **more})


def told(pack: Written) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((pack.folder / "evidence.json").read_text())
    return document


def missing(pack: Written) -> str:
    return "\n".join(f"{gap['missing']} -> {gap['supply']}" for gap in told(pack)["missing"])


class _References(HTMLParser):
    """Everything that a page asks for from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [
            f"{key}={value}" for key, value in attrs if key in {"src", "href", "srcset", "action", "data"}
        ]


@pytest.mark.parametrize("name", ["example-law-firm", "lab"])
def test_a_pack_is_complete_in_itself_private_and_signed(tmp_path: Path, name: str) -> None:
    client = opened(tmp_path, name)
    pack = written(client, whole=True)

    assert pack.folder == client.directory / "evidence" / "2026-11-22T101500Z"
    verified = verify_manifest(pack.folder, (client.directory / "signing-key.pem").read_bytes())
    assert verified.known
    assert verified.files == pack.files
    assert stat.S_IMODE(pack.folder.stat().st_mode) == 0o700
    files = [path for path in pack.folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    text = (pack.folder / "index.html").read_text()
    page_ = _References()
    page_.feed(text)
    assert all(reference.startswith("href=#") for reference in page_.found), page_.found
    assert not page_.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert "@import" not in text
    assert "url(" not in text
    assert verified.fingerprint in text
    assert CAVEAT.split(":")[0] in text
    assert (pack.folder / "evidence.pdf").read_bytes().startswith(b"%PDF-")
    document = told(pack)
    assert document["caveat"] == CAVEAT
    assert {row["article"] for row in document["articles"]} == set(BY_NAME)
    assert all(row["sections"] for row in document["articles"]), "an article that nothing serves"
    assert {name for section in document["sections"].values() for name in section["files"]} < {
        path.relative_to(pack.folder).as_posix() for path in files
    }


@pytest.mark.parametrize("name", ["example-law-firm", "lab"])
def test_no_secret_is_in_any_file(tmp_path: Path, name: str) -> None:
    client = opened(tmp_path, name)
    ran(client, "verify", junit=JUNIT)
    pack = written(client)
    values = [line for value in client.secret_values().values() for line in value.splitlines()]
    values = [value.encode() for value in values if len(value) >= 8 and not value.startswith("-----")]
    assert len(values) > 30
    for path in pack.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [value for value in values if value in content], path


def test_a_secret_that_a_stack_repeats_is_refused(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    password = client.secrets.get("litellm.key_n8n")
    client = opened(tmp_path, "example-law-firm", governance={"purpose": f"The key is {password}"})

    with pytest.raises(LeakError, match=r"litellm\.key_n8n") as caught:
        written(client)

    assert password not in str(caught.value.as_dict())
    assert not list((client.directory / "evidence").glob("2*"))


def test_the_address_of_a_webhook_is_kept_to_ourselves(tmp_path: Path) -> None:
    stack = yaml.safe_load((INVENTORY / "example-law-firm/stack.yml").read_text())
    services = {
        **stack["services"],
        "alertmanager": {"webhook_url": "https://hooks.example.org/services/T0KEN"},
    }
    pack = written(opened(tmp_path, "example-law-firm", services=services))

    assert "a webhook" in (pack.folder / "index.html").read_text()
    assert not [path for path in pack.folder.rglob("*") if path.is_file() and b"T0KEN" in path.read_bytes()]


def test_what_is_missing_is_said_with_what_would_supply_it(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm", governance={})
    said = missing(written(client))

    for key in ("purpose", "controller", "risk_class", "oversight", "stop", "training", "impact_assessment"):
        assert f"`governance.{key}`" in said
    assert "never proven" in said
    assert "`freehold verify example-law-firm`" in said
    assert "in no git repository" in said
    assert "The weights of qwen3.5-35b-a3b are not locked" in said
    assert "Incidents are not collected" in said
    assert "could not be read: it was not asked (`--offline`)" in said
    assert "agreement" not in said, "there is no cloud provider"
    text = (client.directory / "evidence" / "2026-11-22T101500Z" / "index.html").read_text()
    assert text.index("What is missing") < text.index("1. Purpose, risk and oversight")
    assert "No cloud provider: nothing can leave." in text


def test_ways_to_anybody_are_shown_with_whom_they_are_for(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "example-law-firm"))
    rows = told(pack)["sections"]["leaving"]["data"]["outside"]
    mail = next(row for row in rows if row["from"] == "alertmanager" and "port 587/tcp" in row["to"])

    assert mail["why"] == "mail.example-law-firm.de for alertmanager (user prometheus alone)"


def test_the_example_states_what_a_firm_would_and_lacks_what_it_has_not_done(tmp_path: Path) -> None:
    said = missing(written(opened(tmp_path, "example-law-firm")))

    assert re.findall(r"`governance\.(\w+)`", said) == ["impact_assessment"]


def test_what_the_client_states_is_shown_and_no_longer_missing(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "example-law-firm", **GOVERNANCE))
    said, text = missing(pack), (pack.folder / "index.html").read_text()

    assert "`governance.purpose`" not in said
    assert "`governance.training`" not in said
    assert "`governance.oversight`" in said
    assert "Drafts &amp; &lt;summaries&gt;." in text
    assert "Łukasz Żółć" in text
    assert "2026-03-01: list no. 3" in text


def test_cloud_providers_are_listed_with_region_agreement_and_seat(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "example-law-firm", **CLOUD))
    sections, said = told(pack)["sections"], missing(pack)
    leaving = {each["name"]: each for each in sections["leaving"]["data"]["providers"]}

    assert leaving["anthropic"]["host"] == "api.anthropic.com"
    assert (leaving["mistral"]["region"], leaving["mistral"]["seat"]) == ("FR", "FR")
    assert "`routing.providers.anthropic.agreement`" in said
    assert "`routing.providers.mistral.agreement`" not in said
    assert "anthropic computes, or has its seat, outside the European Economic Area" in said
    assert "mistral computes" not in said
    assert "`routing-cases.yml`" in said
    assert [each["model"] for each in sections["models"]["data"]["cloud"]] == [
        "claude-sonnet-4-5",
        "mistral-large-latest",
    ]
    activities = {row["activity"]: row for row in sections["processing"]["data"]["activities"]}
    chat = activities["Chat with language models, also about documents"]
    assert "DPA of 2026-03-01" in chat["recipients"]
    assert "anthropic (computes in: US" in chat["third_countries"]
    assert "mistral" not in chat["third_countries"]


def test_the_clients_own_cases_are_decided_and_shown_without_their_text(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm", **CLOUD)
    user = "mustermann@example-law-firm.de"
    cases = [
        {
            "name": "An account",
            "text": "Pay DE89 3704 0044 0532 0130 00",
            "user": user,
            "model": "claude",
            "expect": "local",
        },
        {
            "name": "Must leave",
            "text": "IBAN DE89 3704 0044 0532 0130 00",
            "user": user,
            "model": "claude",
            "expect": "cloud",
        },
    ]
    (client.directory / "routing-cases.yml").write_text(yaml.safe_dump(cases))
    ran(client, "verify", junit=JUNIT, at="20261120T080000")
    pack = written(client)
    text, said = (pack.folder / "index.html").read_text(), missing(pack)

    assert "An account" in text
    assert '<td class="failed">failed</td>' in text
    assert "Cases of the routing policy that go elsewhere than they must: 1." in said
    assert "no test cases of its own" not in said
    assert "nothing sensitive reaches the cloud" in text
    assert "3704" not in (pack.folder / "evidence.json").read_text() + text


def test_the_register_says_source_revision_checksums_licence_and_since_when(tmp_path: Path) -> None:
    client = opened(tmp_path, "lab")
    (client.directory / "served.yml").write_text("tiny: {model: tiny, engine: vllm, since: '2026-11-01'}\n")
    pack = written(client)
    rows = list(csv.DictReader(io.StringIO((pack.folder / "language-models.csv").read_text("utf-8-sig"))))
    tiny = next(row for row in rows if row["id"] == "tiny")

    assert tiny["repository"] == "freehold-lab/tiny"
    assert re.fullmatch("[0-9a-f]{40}", tiny["revision"])
    assert re.fullmatch("[0-9a-f]{64}", tiny["files_checksum"])
    assert tiny["licence"] == "Apache-2.0"
    assert tiny["licence_status"] == "nothing in it forbids the declared use"
    assert (tiny["jurisdiction"], tiny["since"]) == ("DE", "2026-11-01")
    assert "Since when tiny-chat is served is not recorded." in missing(pack)
    assert "Since when tiny is served" not in missing(pack)


def test_people_groups_and_applications_are_listed_and_no_key(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    data = told(written(client))["sections"]["access"]["data"]

    assert [person["mail"] for person in data["people"] if person["administrator"]] == [
        "mustermann@example-law-firm.de"
    ]
    assert data["applications_with_a_key"] == ["openwebui", "n8n"]
    assert data["api_token"] == "freehold@pve!example-law-firm"
    assert not data["single_sign_on"]


def test_single_sign_on_is_said_and_what_the_provider_knows_is_missing(tmp_path: Path) -> None:
    sso = {
        "provider": "keycloak",
        "issuer": "https://login.acme.example/realms/acme",
        "client_ids": {"openwebui": "chat"},
    }
    pack = written(opened(tmp_path, "example-law-firm", sso=sso))

    assert (
        "by keycloak at https://login.acme.example/realms/acme for openwebui"
        in (told(pack)["sections"]["access"]["data"]["single_sign_on"])
    )
    assert "Whom the identity provider lets in" in missing(pack)


@pytest.mark.parametrize(("months", "enough"), [(5, False), (6, True)])
def test_records_of_a_high_risk_use_are_kept_for_six_months(
    tmp_path: Path, months: int, enough: bool
) -> None:
    stated = {"governance": {"risk_class": "high"}, "audit": {"retention_months": months}}
    said = missing(written(opened(tmp_path, "example-law-firm", **stated)))

    assert ("wants six at least" in said) is not enough


def test_what_is_kept_is_listed_with_the_key_that_says_how_long(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "example-law-firm", **CLOUD))
    rows = told(pack)["sections"]["retention"]["data"]["kept"]
    kept = {(row["service"], row["what"].split(",")[0].split(":")[0]): row for row in rows}

    assert kept["langfuse", "uploads of traces as they came in"]["set_by"] == "audit.retention_months"
    assert kept["litellm", "ledger of calls"]["kept"] == "6 months"
    assert kept["openwebui", "who uploaded"]["kept"] == "180 days"
    assert kept["valkey", "which conversations stay in the building (as keyed hashes)"]
    for row in rows:
        if row["set_by"].startswith("services."):
            _, service, option = row["set_by"].split(".")
            assert f"{service}_{option}" in argument_specs(service), row["set_by"]


def test_a_record_with_holes_is_said(tmp_path: Path) -> None:
    record = {
        "since": "2026-10-23T00:00:00",
        "calls": 10,
        "traces": 7,
        "waiting": 1,
        "aside": 0,
        "erased": 1,
        "missing": ["x"],
    }
    client = opened(tmp_path, "example-law-firm")
    with patch("freehold.run.evidence.live.offline", return_value=Live(record=record)):
        pack = written(client)

    assert "Calls that are missing in the record of requests: 1." in missing(pack)
    assert (
        "of 10 calls of the router since 2026-10-23, 7 are in the record"
        in (pack.folder / "index.html").read_text()
    )


def test_the_last_proof_and_what_failed_is_in_it(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    failed = JUNIT.replace("</testcase>\n</testsuite>", "<failure>no</failure></testcase></testsuite>")
    assert failed != JUNIT
    ran(client, "verify", junit=JUNIT, at="20261120T080000")
    newest = ran(client, "up", junit=failed, at="20261121T080000")
    ran(
        client,
        "up",
        Event(stage=Stage.BASE, status=Status.CHANGED, step="x", host="caddy"),
        at="20261122T080000",
    )
    pack = written(client)
    data = told(pack)["sections"]["proofs"]["data"]

    assert data["run"]["run"] == newest.name
    assert (data["passed"], data["failed"]) == (1, 1)
    assert (pack.folder / "proofs/proof.xml").read_text() == failed
    assert "Checks of the last proof that failed: 1." in missing(pack)
    assert "Runs that changed something since the last proof: 1." in missing(pack)


def test_an_old_proof_is_called_old(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    ran(client, "verify", junit=JUNIT)
    now = datetime.now(UTC)

    assert "The last proof is of" not in missing(written(client, now=now, out=tmp_path / "new"))
    assert "The last proof is of" in missing(
        written(client, now=now + timedelta(days=40), out=tmp_path / "old")
    )


def test_runs_that_failed_are_known_faults(tmp_path: Path) -> None:
    client = opened(tmp_path, "lab")
    stage = {"stage": Stage.SERVICES, "step": "Configuring services"}
    ran(
        client,
        "up",
        Event(status=Status.STARTED, **stage),
        Event(stage=Stage.SERVICES, status=Status.CHANGED, step="Unit", host="vllm"),
        Event(status=Status.FAILED, message="The stage services failed on vllm", **stage),
    )
    data = told(written(client))["sections"]
    (run,) = data["incidents"]["data"]["failed_runs"]

    assert (run["command"], run["changes"], run["error"]) == (
        "up",
        {"services": 1},
        "The stage services failed on vllm",
    )
    assert run in data["changes"]["data"]["runs"]


def test_a_pack_that_somebody_touched_is_not_what_changes_are_held_against(tmp_path: Path) -> None:
    first = written(opened(tmp_path, "example-law-firm"))
    second = written(opened(tmp_path, "example-law-firm"), now=NOW + timedelta(days=1))
    path = second.folder / "evidence.json"
    path.write_text(path.read_text().replace("example-law-firm", "example-law-form"))
    third = written(opened(tmp_path, "example-law-firm"), now=NOW + timedelta(days=2))

    assert told(third)["sections"]["changes"]["data"]["since"] == told(first)["made"]


def test_changes_since_the_last_pack(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    first = written(client)
    assert "first pack" in (first.folder / "index.html").read_text()

    stack = yaml.safe_load(client.loaded.path.read_text())
    users = [*stack["users"][:1], {"name": "Neu Neumann", "mail": "neu@example-law-firm.de", "admin": True}]
    second = written(opened(tmp_path, "example-law-firm", users=users, **CLOUD), now=NOW + timedelta(days=1))
    facts = {(each["which"], each["change"]) for each in told(second)["sections"]["changes"]["data"]["facts"]}

    assert {
        ("neu@example-law-firm.de", "new"),
        ("beispiel@example-law-firm.de", "gone"),
        ("anthropic", "new"),
    } <= facts
    third = written(Client.open(client.loaded.path), now=NOW + timedelta(days=2))
    assert told(third)["sections"]["changes"]["data"]["facts"] == []
    assert told(third)["sections"]["changes"]["data"]["since"] == (NOW + timedelta(days=1)).isoformat()


def test_commits_of_the_stack_file_are_listed_and_what_is_in_none_is_said(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@acme.example"]
        subprocess.run(
            ["git", "-C", str(client.directory), *who, *arguments], check=True, capture_output=True
        )

    git("init", "--quiet")
    git("add", "stack.yml")
    git("commit", "--quiet", "-m", "More memory | for <vLLM>")
    pack = written(client)
    (commit,) = told(pack)["sections"]["changes"]["data"]["commits"]
    assert (commit["who"], commit["what"]) == ("Ada", "More memory | for <vLLM>")
    assert "More memory | for &lt;vLLM&gt;" in (pack.folder / "index.html").read_text()
    assert "in no commit" not in missing(pack)

    with client.loaded.path.open("a") as stack:
        stack.write("# later\n")
    assert "in no commit" in missing(written(Client.open(client.loaded.path), now=NOW + timedelta(days=1)))
    status = subprocess.run(
        ["git", "-C", str(client.directory), "status", "--porcelain"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "evidence" not in status, "packs are never in git by accident"


def test_stand_ins_are_named(tmp_path: Path) -> None:
    client = opened(tmp_path, "lab")
    (client.directory / "versions.yml").write_text("qdrant: {stand_in: true, version: 1.19.0+stand-in}\n")
    pack = written(Client.open(client.loaded.path))

    assert "Stand-ins of the lab, not the programs themselves: qdrant." in missing(pack)


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    client = opened(tmp_path, "example-law-firm")
    (tmp_path / "pack").mkdir()
    with pytest.raises(BadInputError, match="exists already"):
        written(client, out=tmp_path / "pack")


def test_long_texts_stay_whole_in_the_pdf(tmp_path: Path) -> None:
    """Values may be longer than a page, and checksums longer than a column."""
    client = opened(tmp_path, "example-law-firm", governance={"oversight": "Somebody reads it. " * 600})
    pack = written(client, whole=True)
    assert (pack.folder / "evidence.pdf").read_bytes().count(b"/Type /Page\n") > 8


def test_every_gap_and_section_names_articles_that_are_explained(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "lab", **GOVERNANCE)).pack
    named = {name for section in pack.sections for name in section.articles}
    named |= {name for gap in pack.gaps for name in gap.serves}
    assert named <= set(BY_NAME)
    assert all(article.asks.endswith(".") for article in ARTICLES)
    assert all(gap.supply for gap in pack.gaps)


def test_cells_that_a_spreadsheet_would_compute_are_texts() -> None:
    assert b"'=1+1" in as_csv(("a",), [["=1+1"]])


def test_the_command_writes_and_verifies(tmp_path: Path, cli: Cli) -> None:
    client = opened(tmp_path, "example-law-firm")
    said = cli("evidence", str(client.loaded.path), "--offline", "--json")
    assert said.code == 0, said.err
    folder = Path(json.loads(said.out)["folder"])

    key = client.directory / "signing-key.pem"
    said = cli("evidence", "verify", str(folder), "--key", str(key), "--json")
    assert json.loads(said.out)["key_known"] is True
    assert cli("evidence", "verify", str(folder)).code == 0

    page_ = folder / "index.html"
    page_.write_text(page_.read_text().replace("What is missing", "Nothing is missing"))
    said = cli("evidence", "verify", str(folder), "--key", str(key))
    assert said.code == 1
    assert "index.html: changed" in said.panel
    with pytest.raises(ManifestError):
        verify_manifest(folder)


def test_a_node_that_does_not_answer_is_named_and_the_pack_is_written(tmp_path: Path) -> None:
    pack = written(opened(tmp_path, "example-law-firm"), offline=False)
    assert "There is no API token for example-law-firm" in missing(pack)
    assert told(pack)["sections"]["gpus"]["data"]["now"] is None


def test_what_presidio_decides_is_not_said_to_have_passed_here(tmp_path: Path) -> None:
    sensitive = {"sensitive": {"presidio": {"languages": ["de", "en"]}}}
    client = opened(tmp_path, "example-law-firm", routing={**CLOUD["routing"], **sensitive})
    case = {
        "name": "A name",
        "text": "A letter to Erika Musterfrau",
        "user": "mustermann@example-law-firm.de",
        "model": "claude",
        "expect": "local",
        "because": "person",
    }
    (client.directory / "routing-cases.yml").write_text(yaml.safe_dump([case]))
    pack = written(client)
    text = (pack.folder / "index.html").read_text()

    assert "keeps what it takes for a name (person, organisation) in the building, in de, en" in text
    assert "Presidio, which runs on the router alone, has not read it" in text
    assert "see proof" in text
    assert "go elsewhere than they must" not in missing(pack)
