"""Bank accounts and payment cards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .categories import Hit
from .checks import luhn, mod_97_10
from .numbers import GAP, SEPARATORS, Number, labelled

_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24"
    " FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21"
    " LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22"
    " RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
LENGTHS = {entry[:2].lower(): int(entry[2:]) for entry in _LENGTHS.split()}
"""Length of an IBAN by country (SWIFT, IBAN registry, release 101)."""

_START = re.compile(
    rf"(?<![0-9a-z])(?:iban{GAP})?([a-z]{GAP}[a-z]{GAP}[0-9oil]{GAP}[0-9oil])(?={SEPARATORS}{{0,3}}[0-9a-z])"
)
_NEXT = re.compile(rf"{GAP}([0-9a-z])")
_LABEL = r"iban|konto|bankverbindung|account|compte|rekening|cuenta|conto|rachun|kont[oa]\b"
_DIGITS = str.maketrans("oil", "011")

BIC = re.compile(r"(?<![0-9a-z])[a-z]{4} ?([a-z]{2}) ?[0-9a-z]{2}(?: ?[0-9a-z]{3})?(?![0-9a-z])")
_BIC_LABEL = re.compile(r"\b(?:bic|swift)(?:[ \-/]?(?:code|bic|swift))?[\s:=(\"'\-]{1,5}$")
_ACCOUNT = re.compile(
    r"\b(?:konto-?\s?(?:nr|nummer|no)|kto\.?(?:-?\s?nr)?|blz|bankleitzahl|account\s(?:number|no)|acct|sort\s?code|routing\s(?:number|no)"
    r"|numero\sde\scompte|numero\sde\scuenta|numero\sdi\sconto|numero\sdi\sc/c|rekeningnummer|(?:numer|nr)\s(?:konta|rachunku)|rachunek)"
    r"[\s.:#=\-]{0,4}(?:[a-z]{2,12}[\s:]{1,2}){0,3}([0-9](?:[ .\-/]?[0-9]){5,25})"
)

_LABELS_OF_CARDS = (
    r"kart|card|carte|tarjeta|carta|visa|master|amex|american express|maestro|cvv|cvc|kaart|gultig bis|exp"
)


def find_ibans(text: str) -> Iterator[Hit]:
    """IBAN (ISO 13616) in a folded, lower-case text, with any separators."""
    place = 0
    while match := _START.search(text, place):
        place = match.start() + 1
        head = re.sub(r"[^0-9a-z]", "", match[1])
        length = LENGTHS.get(head[:2])
        if length is None:
            continue
        compact = head[:2] + head[2:].translate(_DIGITS)
        at = match.end()
        while len(compact) < length and (following := _NEXT.match(text, at)):
            compact += following[1]
            at = following.end()
        if len(compact) < length:
            continue
        candidates = {compact, compact[:4] + compact[4:].translate(_DIGITS)}
        if sum(map(str.isdigit, compact)) * 2 < length:
            continue  # words in a row: no country's accounts are letters for the most part
        if any(mod_97_10(number[4:] + number[:4]) for number in candidates):
            yield Hit(match.start(1), at, "bank-account", "iban", 0.95)
            place = at
        elif sum(char.isdigit() for char in compact) >= length * 0.6 and labelled(
            text, match.start(), at, _LABEL
        ):
            yield Hit(match.start(1), at, "bank-account", "iban-wrong-check", 0.7)
            place = at


def find_accounts(text: str) -> Iterator[Hit]:
    """BIC (ISO 9362) after its name, and account numbers after theirs, in a folded, lower-case text."""
    if "bic" in text or "swift" in text:
        for match in BIC.finditer(text):
            if _BIC_LABEL.search(text[max(0, match.start() - 24) : match.start()]):
                yield Hit(match.start(), match.end(), "bank-account", "bic", 0.8)
    for match in _ACCOUNT.finditer(text):
        yield Hit(match.start(1), match.end(), "bank-account", "account-number", 0.9)


def _card(number: str) -> bool:
    """ISO/IEC 7812: prefixes of the schemes, and Luhn."""
    length, two, four = len(number), int(number[:2]), int(number[:4])
    known = (
        (number[0] == "4" and length in {13, 16, 19})
        or (51 <= two <= 55 and length == 16)
        or (2221 <= four <= 2720 and length == 16)
        or (two in {34, 37} and length == 15)
        or ((four == 6011 or two in {64, 65}) and length in {16, 19})
        or (3528 <= four <= 3589 and length == 16)
        or (two in {36, 38, 39, 30} and length == 14)
        or (two in {50, 56, 57, 58, 62, 63, 67, 68} and length in {16, 18, 19})
    )
    return known and luhn(number)


CARDS = tuple(
    Number(
        "card",
        "card",
        "9" * length,
        _card,
        _LABELS_OF_CARDS,
        written=r"\d{4}([ .\-/]{1,3})\d{4}\1\d{4}\1\d{4}|3\d{3}([ .\-])\d{6}\2\d{4,5}",
    )
    for length in (13, 14, 15, 16, 18, 19)
)
"""Payment cards, by length."""
