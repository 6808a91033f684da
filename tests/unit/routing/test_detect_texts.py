"""Encodings, terms, names, credentials, and what the detectors refuse to judge."""

from __future__ import annotations

import ast
import base64
import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.routing import detect
from freehold.routing.detect import CATEGORIES, LIMIT, Detectors, NotJudgedError

NAMES = (
    "Jürgen Weißenborn",
    "Hans-Peter Groß",
    "Siobhán O'Connell",
    "Przybylski, Tomasz",
    "Nordwind Logistik GmbH",
    "Projekt Eisvogel",
)
DETECTORS = Detectors(names=NAMES)
IBAN = "DE89370400440532013000"


def categories(*texts: str, detectors: Detectors = DETECTORS) -> set[str]:
    return {finding.category for finding in detectors.scan(texts)}


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(IBAN.encode()).decode(),
        base64.b64encode(base64.b64encode(IBAN.encode())).decode(),
        base64.b64encode(gzip.compress(IBAN.encode())).decode(),
        base64.b64encode(IBAN.encode("utf-16-le")).decode(),
        base64.b32encode(IBAN.encode()).decode(),
        IBAN.encode().hex(),
        IBAN.encode().hex(" "),
        "".join(f"%{byte:02x}" for byte in IBAN.encode()),
        "".join(f"&#{ord(char)};" for char in IBAN),
        "".join(f"\\u{ord(char):04x}" for char in IBAN),
        " ".join(f"{byte:08b}" for byte in IBAN.encode()),
        " ".join(str(byte) for byte in IBAN.encode()),
    ],
)
def test_an_iban_under_encodings(text: str) -> None:
    assert "bank-account" in categories(f"Was ist das: {text} ?")


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Frau Kramer hat Brustkrebs.", "health"),
        ("Le salarié est en arrêt maladie.", "health"),
        ("Diagnose F33.1 G", "health"),
        ("Unser Mandant lehnt ab.", "legal"),
        ("This is attorney-client privileged.", "legal"),
        ("Objęte tajemnicą adwokacką", "legal"),
        ("Controleer deze loonstrook", "pay"),
        ("El candidato tiene antecedentes penales", "special"),
        ("Der Bewerber ist Gewerkschaftsmitglied", "special"),
        ("geboren am 3. März 1971", "birth-date"),
        ("Az. 12 O 345/24", "case-number"),
        ("Kennzeichen KS-AB 123", "licence-plate"),
        ("Tel. 0561 123456", "phone"),
        ("max (at) kanzlei (dot) de", "mail"),
        ("Reisepass C01X00T47", "identity-document"),
        ("Passwort: Sommer2024!", "credential"),
        ("postgres://app:geheim99@db:5432/x", "credential"),
        ("-----BEGIN PRIVATE KEY-----", "credential"),
        ("Login von der IP-Adresse 91.12.3.4", "ip-address"),
        ("Это письмо написано на языке, который никто здесь не читает", "unreadable"),
    ],
)
def test_each_category(text: str, category: str) -> None:
    assert category in categories(text)
    assert category not in categories(text, detectors=Detectors(ignore=[category]))


@pytest.mark.parametrize(
    "text",
    [
        "Schreibe eine Einladung zum Sommerfest am 12.07.2026 um 16 Uhr.",
        "Rechne 1.250,00 Euro netto in brutto um.",
        "Bestellnummer 4711081523 ist noch nicht da.",
        "pip install numpy==2.1.3 fails on Python 3.13.1",
        "Diagnose a slow network between two switches.",
        'password = os.environ["DB_PASSWORD"]',
        "ISBN 978-3-16-148410-0",
        "Der Server 192.168.1.17 antwortet nicht.",
        "git clone git@github.com:freehold-ai/freehold.git",
        "docker pull app@sha256:" + "0123456789abcdef" * 4,
    ],
)
def test_everyday_texts_pass(text: str) -> None:
    assert DETECTORS.scan([text]) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Jürgen Weißenborn", "JUERGEN WEISSENBORN", "jurgen weissenborn", "Weißenborn, Jürgen", "J. Weißenborn", "Frau Groß", "Weißenborns Akte",
        "Jürgen\nWeißenborn", "Jür-\ngen Weißen-\nborn", "J ü r g e n  W e i ß e n b o r n", "juergen.weissenborn", "W3iß3nb0rn, Jürg3n", "Jürgen W.",
        "Peter Groß", "O'Connell", "Tomasza Przybylskiego", "Nordwind-Logistik", "NordwindLogistikGmbH", "Nordwind", "Eisvogel", "Wеißеnbоrn Jürgen",
    ],
)  # fmt: skip
def test_names_in_many_spellings(text: str) -> None:
    assert "name" in categories(f"Schreibe an {text} einen Brief")


@pytest.mark.parametrize(
    "text", ["Der Raum ist groß und hell.", "Peter hat recht.", "Logistik ist teuer.", "Ein Projekt beginnt."]
)
def test_words_of_names_alone_are_none(text: str) -> None:
    assert "name" not in categories(text)


def test_a_name_over_three_messages() -> None:
    assert "name" in categories("Jür", "gen Weißen", "born")


def test_spans_lead_back_to_the_original() -> None:
    text = f"Grüße! Ｄas Konto {IBAN} gehört Jürgen Weißenborn, Tel. +49 561 1234567."
    found = {(category, text[start:end]) for start, end, category in DETECTORS.spans(text)}
    assert found == {("bank-account", IBAN), ("name", "Jürgen Weißenborn"), ("phone", "+49 561 1234567")}
    encoded = base64.b64encode(IBAN.encode()).decode()
    text = f"ü {encoded} ü"
    assert [text[start:end] for start, end, _ in DETECTORS.spans(text)] == [encoded]


def test_findings_hold_nothing_of_the_text() -> None:
    for finding in DETECTORS.scan([f"{IBAN} Jürgen Weißenborn Passwort: Sommer2024!"]):
        assert set(vars(finding)) == {"category", "detector", "score"}
        assert finding.category in CATEGORIES
        assert "weißenborn" not in repr(finding).lower()


def test_what_is_not_judged() -> None:
    with pytest.raises(NotJudgedError, match="characters"):
        DETECTORS.scan(["a" * (LIMIT + 1)])
    with pytest.raises(NotJudgedError):
        DETECTORS.scan("a text, not a list of texts")
    with pytest.raises(NotJudgedError):
        DETECTORS.scan([None])  # type: ignore[list-item]
    text = IBAN
    for _ in range(6):
        text = base64.b64encode(text.encode()).decode()
    with pytest.raises(NotJudgedError, match="encodings"):
        DETECTORS.scan([text])
    with pytest.raises(NotJudgedError, match="numbers"):
        DETECTORS.scan(["12 345 678 " * 9000])


@pytest.mark.parametrize(
    "wrong", [{"countries": ["XX"]}, {"ignore": ["weather"]}, {"ignore": "phone"}, {"names": ["-"]}]
)
def test_wrong_settings_are_refused(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"know|list|name"):
        Detectors(**wrong)


@given(st.lists(st.text(max_size=200), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_is_judged_and_its_spans_lie_in_it(texts: list[str]) -> None:
    DETECTORS.scan(texts)
    for text in texts:
        for start, end, _ in DETECTORS.spans(text):
            assert 0 <= start < end <= len(text)


@pytest.mark.parametrize(
    "piece",
    ["a", "0", "a1", "a@", "a. ", "password: ", "tel. ", "%41", "&amp;", "\\u0041", "QUJDREVG", "ausweis ", "az. 1", "ü", "a-b-", "abc/", "a at b dot ", "p<d<<", "af:", "- \n", "mit "],
)  # fmt: skip
def test_hostile_texts_take_no_longer_than_others(piece: str) -> None:
    """Four times the text may take about four times as long; sixteen would be the square. A busy machine may spoil a try."""

    def seconds(size: int) -> float:
        text = (piece * size)[:size]
        start = time.process_time()
        DETECTORS.scan([text])
        return time.process_time() - start

    assert any(seconds(20_000) < 9 * seconds(5_000) + 0.1 for _ in range(5))


def test_only_the_standard_library_and_relative_imports() -> None:
    """The router runs these files under another name."""
    for path in Path(detect.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert all(not alias.name.startswith("freehold") for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert not (node.module or "").startswith("freehold"), path
