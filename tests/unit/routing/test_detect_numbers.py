"""Numbers with check digits: published examples are found, damaged ones are not, in whatever way they are written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.routing.detect import COUNTRIES, Detectors
from freehold.routing.detect.countries import NUMBERS

DETECTORS = Detectors()
IBAN = "DE89370400440532013000"

# Examples that the issuers, or the documentation of python-stdnum, give.
EXAMPLES = [
    ("de-steuer-id", "36574261809"),
    ("de-rentenversicherung", "15070649C103"),
    ("de-krankenversicherung", "A123456780"),
    ("at-sozialversicherung", "1237010180"),
    ("at-steuernummer", "591199013"),
    ("ch-ahv", "7569217076985"),
    ("fr-nir", "295109912611193"),
    ("fr-fiscal", "3023217600053"),
    ("nl-bsn", "111222333"),
    ("be-rijksregister", "85073003328"),
    ("es-dni", "54362315K"),
    ("es-nie", "X2482300W"),
    ("it-codice-fiscale", "RCCMNL83S18D969H"),
    ("pl-pesel", "44051401359"),
    ("pl-nip", "8567346215"),
    ("pt-nif", "501964843"),
    ("pt-cartao", "000000000ZZ4"),
    ("se-personnummer", "8803200016"),
    ("dk-cpr", "2110625629"),
    ("fi-hetu", "131052A308T"),
    ("ie-pps", "6433435F"),
    ("ie-pps", "6433435OA"),
    ("gb-nhs", "9434765870"),
    ("gb-utr", "1955839661"),
    ("us-itin", "912903456"),
    ("no-fodselsnummer", "15108695088"),
    ("ro-cnp", "1630615123457"),
]


def kinds(detector: str, length: int) -> list[bool]:
    return [
        number
        for numbers in NUMBERS.values()
        for number in numbers
        if number.detector == detector and len(number.shape) == length
    ]  # type: ignore[misc]


@pytest.mark.parametrize(("detector", "number"), EXAMPLES)
def test_published_examples_are_valid(detector: str, number: str) -> None:
    found = kinds(detector, len(number))
    assert found
    assert any(kind.valid(number.lower()) for kind in found)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("detector", "number"), [example for example in EXAMPLES if example[0] not in {"us-itin", "dk-cpr"}]
)
def test_a_changed_digit_is_no_such_number(detector: str, number: str) -> None:
    place = max(place for place, char in enumerate(number) if char.isdigit())
    wrong = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
    assert not any(kind.valid(wrong.lower()) for kind in kinds(detector, len(number)))  # type: ignore[attr-defined]


def found(text: str, detectors: Detectors = DETECTORS) -> set[str]:
    return {finding.detector for finding in detectors.scan([text])}


@given(
    st.lists(
        st.sampled_from(["", " ", "-", ".", "/", "_", "\n", "\u00a0", "\u200b", " - ", "·"]),
        min_size=21,
        max_size=21,
    )
)
@settings(max_examples=40, deadline=None)
def test_an_iban_with_any_separators(separators: list[str]) -> None:
    text = IBAN[0] + "".join(separator + char for separator, char in zip(separators, IBAN[1:], strict=True))
    assert "iban" in found(f"Bitte an {text} überweisen")


@given(st.integers(min_value=1, max_value=20))
@settings(max_examples=20, deadline=None)
def test_an_iban_split_over_messages(place: int) -> None:
    one, two = IBAN[:place], IBAN[place:]
    for texts in ([one, two], [f"Konto {one}", "OK.", f"weiter: {two}"], [one, "Was noch?", two, "Danke."]):
        assert any(finding.detector == "iban" for finding in DETECTORS.scan(texts)), texts


def test_an_iban_in_other_digits_and_words() -> None:
    assert "iban" in found("ＤＥ８９ ３７０４ ００４４ ０５３２ ０１３０ ００")
    assert "iban" in found("DE٨٩٣٧٠٤٠٠٤٤٠٥٣٢٠١٣٠٠٠")
    words = dict(
        zip(
            "0123456789",
            ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
            strict=True,
        )
    )
    assert "iban" in found(" ".join(words.get(char, char) for char in IBAN))
    assert "iban" in found(IBAN[::-1])


def test_a_wrong_iban_counts_where_it_is_called_one() -> None:
    wrong = IBAN[:-1] + "1"
    assert "iban-wrong-check" in found(f"IBAN {wrong}")
    assert "iban" not in found(f"Teil {wrong}")


def test_a_number_of_another_kind_is_none() -> None:
    assert "nl-bsn" in found("111222333")
    assert "nl-bsn" not in found("Bestellnummer 111222333")
    assert "nl-bsn" not in found("1.112,22 und 333")
    assert "nl-bsn" in found("BSN 111-222-333")


def test_countries_are_chosen() -> None:
    german = Detectors(countries=["DE"])
    assert "nl-bsn" not in found("BSN 111222333", german)
    assert "de-steuer-id" in found("Steuer-ID 36574261809", german)
    assert len(COUNTRIES) >= 16


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "378282246310005", "5555-5555-5555-4444"])
def test_cards(number: str) -> None:
    assert "card" in found(number)
    assert "card" not in found(number[:-1] + str((int(number[-1]) + 1) % 10))
