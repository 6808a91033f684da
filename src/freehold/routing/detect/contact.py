"""How a person is reached or recognised: telephone, mail, date of birth, papers, plates, addresses of machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from .categories import Hit
from .numbers import OTHERWISE, labelled

_MAIL = re.compile(
    r"(?<![a-z0-9._%+\-])[a-z0-9][a-z0-9._%+\-]{0,63}"
    r"(?:\s{0,2}@\s{0,2}|\s?[\[({<]\s?(?:at|a|ät|arroba|chiocciola|malpa)\s?[\])}>]\s?|\s(?:at|klammeraffe|arroba|chiocciola|arobase)\s)"
    r"((?:[a-z0-9\-]{1,63}(?:\.|\s?[\[({<]\s?(?:dot|punkt|point|punto|kropka|\.)\s?[\])}>]\s?|\s(?:dot|punkt|point|punto|kropka)\s)){1,4})"
    r"([a-z]{2,18})(?![a-z0-9])"
)
_NOT_MAIL = re.compile(r"^git@")

_INTERNATIONAL = re.compile(r"(?<![0-9a-z+])(?:\+|00)[ \-(]{0,2}[1-9](?:[ \-/.()]{0,3}[0-9]){7,14}(?![0-9])")
_NATIONAL = re.compile(r"(?<![0-9a-z.,+\-/_#])\(?0[1-9](?:[ \-/()]{0,3}[0-9]){7,11}(?![0-9.,]*[0-9a-z])")
_DOTTED = re.compile(r"(?<![0-9.])0[1-9](?:\.[0-9]{2}){4}(?![0-9.])")
_AMERICAN = re.compile(
    r"(?<![0-9])(?:\([2-9][0-9]{2}\)\s?|[2-9][0-9]{2}[\-.])[2-9][0-9]{2}[\-. ][0-9]{4}(?![0-9])"
)
_ANY = re.compile(r"(?<![0-9a-z])[+(]{0,2}[0-9](?:[ \-/.()]{0,3}[0-9]){5,14}(?![0-9])")
_PHONE = re.compile(
    r"(?:\b(?:tel|telefon\w*|fon|phone\w*|telephone|mobil\w*|mobile|handy\w*|cell|durchwahl|fax|rufnummer|call|ruf|anrufen|erreichbar|erreichen"
    r"|whatsapp|signal|portable|gsm|telefono|movil|cellulare|komorka|komorkow\w*|numer telefonu|nummer|number|appel\w*)\b)"
    r"[^0-9\n]{0,28}$"
)
_DATE_LIKE = re.compile(
    r"\(?(?:0?[1-9]|[12][0-9]|3[01])[./\- ](?:0?[1-9]|1[0-2])[./\- ](?:(?:19|20)[0-9]{2}(?![0-9])|[0-9]{2}(?![ ./\-]{0,3}[0-9]))|[0-9]{4}-[0-9]{2}-[0-9]{2}"
)

_MONTHS = (
    r"(?:jan|feb|mar|apr|ma[iyj]|jun|jul|aug|sep|okt|oct|nov|de[zc]|janv|fev|avr|juin|juil|aout|ene|abr|ago|dic|gen|mag|giu|lug|set|ott"
    r"|sty|lut|kwi|maj|cze|lip|sie|wrz|paz|lis|gru|mrt|mei)[a-z]{0,8}"
)
_DATE = (
    rf"(?:[0-3]?[0-9]\s?[./\- ]\s?[01]?[0-9]\s?[./\- ]\s?(?:19|20)?[0-9]{{2}}|(?:19|20)[0-9]{{2}}[./\- ][01]?[0-9][./\- ][0-3]?[0-9]|(?:19|20)[0-9]{{6}}"
    rf"|[0-3]?[0-9](?:\.|st|nd|rd|th|er)?\s?(?:de |of )?{_MONTHS}\.?,?\s?(?:de |del )?(?:19|20)?[0-9]{{2}}|{_MONTHS}\.?\s[0-3]?[0-9](?:st|nd|rd|th)?,?\s(?:19|20)[0-9]{{2}})"
)
_BORN = (
    r"(?:gebore\w*|geburts\w*|\bgeb\b|\bborn\b|\bbirth\w*|date of birth|\bd\.?o\.?b\b|\bnee?\b|naissance|nacid\w*|nacio|nacimiento|\bnat[oa]\b|nascita"
    r"|urodz\w*|\bur\b|geboorte\w*|nascid\w*|nascimento|fodt|fodd|syntynyt|jahrgang)"
)
_BIRTH = re.compile(rf"{_BORN}[^0-9\n]{{0,32}}?({_DATE})|\*\s?({_DATE})")
_BIRTH_AFTER = re.compile(
    rf"({_DATE})[^0-9\n]{{0,14}}?(?:geboren|\bborn\b|geburtstag|birthday|date of birth|geburtsdatum)"
)

_PAPERS = re.compile(
    r"(?:(?:personal)?ausweis\w*|reisepass\w*|passnummer|pass-?nr|passport\w*|fuhrerschein\w*|identity card|id[ \-]card|national id|driv(?:ing|er'?s?) licen[cs]e"
    r"|carte (?:nationale )?d'?\s?identite|\bcni\b|passeport\w*|permis de conduire|paspoort\w*|identiteitskaart\w*|identiteitsbewijs|rijbewijs\w*|pasaporte"
    r"|permiso de conducir|carnet de conducir|documento de identidad|passaporto|carta d'?\s?identita|patente(?: di guida)?|paszport\w*|dow\w{1,2} osobist\w*|prawo jazdy|prawa jazdy"
    r"|aufenthaltstitel|residence permit|titre de sejour)[^\n]{0,40}?(?<![0-9a-z])((?=[0-9a-z \-]{0,24}[0-9]{2})[0-9a-z](?:[ \-/.]?[0-9a-z]){5,17})(?![0-9a-z])"
)
_MRZ = re.compile(
    r"(?<![a-z0-9])[pivca][a-z<][a-z]{3}[a-z0-9]*<<?[a-z0-9<]{12,}|[0-9a-z<]{9}[0-9][a-z<]{3}[0-9]{7}[mfx<][0-9]{7}"
)

_PLATE_WORD = re.compile(
    r"(?:kennzeichen|kfz|amtl|licen[cs]e plate|number plate|registration (?:number|plate)|plaque|immatricul\w*|matricula|targa|kenteken|rejestracyjn\w*|nummernschild|fahrzeug|pkw|\blkw\b|auto\b|wagen\b|car\b)"
)
_PLATE = re.compile(
    r"(?<![0-9a-z])(?:[a-z]{1,3}[ \-:][a-z]{1,2}[ \-]?[0-9]{1,4}[eh]?|[a-z]{2}[ \-]?[0-9]{3}[ \-]?[a-z]{2}|[a-z]{2}[0-9]{2}[ \-]?[a-z]{3}|[0-9]{4}[ \-]?[a-z]{3}"
    r"|[0-9a-z]{1,3}-[0-9a-z]{2,3}-[0-9a-z]{1,3}|[a-z]{2,3} ?[0-9a-z]{4,5}|[a-z]{1,2}[ \-]?[0-9]{3,6}[ \-]?[a-z]{0,2})(?![0-9a-z])"
)
_NOT_PLATE = {
    "din",
    "iso",
    "en",
    "vw",
    "bmw",
    "typ",
    "am",
    "um",
    "ca",
    "bis",
    "ab",
    "the",
    "of",
    "in",
    "to",
    "for",
    "is",
    "at",
    "on",
    "ps",
    "kw",
}

_COURT = re.compile(
    r"(?<![0-9a-z/.\-])(?:[0-9]{1,4}|[ivx]{1,4})\s?[a-z]{0,1}\s?"
    r"(?:zr|zb|bvr|bvl|str|ars?|o|c|f|ca|bv|sa|ta|u|w|s|t|ls|ds|cs|js|ujs|kls|ks|qs|gs|owi|ls|ge|ga|ta|ba|azr|abr|aza|k|l|b|r|kr|as|so|al|vs|sb|p|in|ik|ie|n|m|sch|vi|xvii|iv|kn|a|e|d|cg|cga|cgs|ob|nc|hv|bl)"
    r"(?:\s?\([a-z]{2,6}\))?\s{1,2}[0-9]{1,6}/[0-9]{2,4}(?![0-9/])"
)
_SOCIAL_COURT = re.compile(r"(?<![0-9a-z])[lsb]\s[0-9]{1,2}\s[a-z]{1,3}\s[0-9]{1,5}/[0-9]{2}(?![0-9])")
_PUBLISHED = re.compile(
    r"\b(?:bgh|bverfg|bfh|bag|bsg|bverwg|eugh|egmr|ogh|bger|urteil|beschluss|entscheidung|rspr|njw|vgl)\b[^\n]{0,60}$"
)
_CASE = re.compile(
    r"(?:\b(?:az|aktenzeichen|geschaftszeichen|geschaftszahl|gz|gesch\.?-?\s?z\w*|unser zeichen|ihr zeichen|kassenzeichen|steuerzeichen|schadennummer|schaden-nr|akten(?:nummer|-nr)|gerichtsakte|vorstrafenakte"
    r"|case\s(?:no|number|file|ref\w*)|docket(?:\s(?:no|number))?|claim (?:no|number)|file\s(?:no|number|ref\w*)|matter (?:no|number)|numero de (?:role|dossier|parquet)|n\W{0,2}rg|affaire n\w*|dossier n\w*|zaaknummer|rolnummer|dossiernummer|parketnummer"
    r"|expediente|autos|procedimiento|diligencias previas|procedimento penale|r\.?g\.?(?:n\.?r\.?)?|causa n\w*|ruolo generale|fascicolo|sygnatura(?: akt)?|sygn|sprawa nr|sprawy)\b)"
    r"[\s.:#=\-(\"'n°]{0,8}(?:akt|nr|no|num|number|lautet|ist|is|est|es)?[\s.:#\-]{0,4}((?=[^\n]{0,16}?[0-9])[0-9a-z](?:[ ./\-_():]?[0-9a-z]){2,24})"
)

_IPV4 = re.compile(r"(?<![0-9a-z.\-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.]*[0-9a-z])")
_IPV6 = re.compile(
    r"(?<![0-9a-z:.])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f:]{1,9}(?![0-9a-z:])|(?<![0-9a-z:.])[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){1,5}::[0-9a-f:]{0,20}(?![0-9a-z:])"
)
_IP_WORD = r"\bip\b|\bips\b|ipv[46]|adresse|address|host|server|client|login|log-?in|\bfrom\b|\bvon\b|ssh|firewall|whois|\bdns\b|ping|get /|post /|http|adres|indirizzo|direccion"
_VERSION_WORD = re.compile(r"(?:version|release|firmware|driver|treiber|build|update|\bv)[\s:.]{0,3}$")

_ICD = re.compile(r"(?<![0-9a-z.\-/])[a-tv-z][0-9]{2}(?:\.[0-9]{1,2})?(?:\s?[gvzalrb])?(?![0-9a-z\-/])")
_ICD_WORD = r"\bicd\b|icd-?10|diagnos|\bdx\b|\bdg\b|befund|gesichert|rozpozn|krank|patient|f-diagnos"


def _phones(text: str) -> Iterator[tuple[int, int, str, float]]:
    for match in _INTERNATIONAL.finditer(text):
        yield match.start(), match.end(), "phone-international", 0.9
    for pattern in (_NATIONAL, _DOTTED, _AMERICAN):
        for match in pattern.finditer(text):
            if _DATE_LIKE.match(match.group()) or OTHERWISE.search(
                text[max(0, match.start() - 48) : match.start()]
            ):
                continue
            yield match.start(), match.end(), "phone-national", 0.7
    for match in _ANY.finditer(text):
        if _PHONE.search(text[max(0, match.start() - 48) : match.start()]) and not _DATE_LIKE.match(
            match.group()
        ):
            if OTHERWISE.search(text[max(0, match.start() - 48) : match.start()]):
                continue
            yield match.start(), match.end(), "phone-announced", 0.8


def _addresses(text: str) -> Iterator[Hit]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group().strip())
            except ValueError:
                continue
            before = text[max(0, match.start() - 16) : match.start()]
            if (
                address.is_global
                and not _VERSION_WORD.search(before)
                and labelled(text, match.start(), match.end(), _IP_WORD)
            ):
                yield Hit(match.start(), match.end(), "ip-address", "ip-public", 0.7)


def find_contacts(text: str) -> Iterator[Hit]:
    """All of these in a folded, lower-case text."""
    if "@" in text or re.search(r"\b(?:at|klammeraffe|arroba|chiocciola|arobase|malpa)\b", text):
        for match in _MAIL.finditer(text):
            spelled = "@" not in match.group()
            plain = not re.search(r"[\[({<]", match.group())
            if (
                spelled
                and plain
                and not re.search(r"\s(?:dot|punkt|point|punto|kropka)\s|\.[a-z]{2,4}$", match.group())
            ):
                continue
            if not _NOT_MAIL.match(match.group()):
                yield Hit(
                    match.start(),
                    match.end(),
                    "mail",
                    "mail-spelled" if spelled else "mail",
                    0.7 if spelled else 0.95,
                )
    for start, end, detector, score in _phones(text):
        yield Hit(start, end, "phone", detector, score)
    for match in _BIRTH.finditer(text):
        start, end = match.span(1) if match[1] else match.span(2)
        yield Hit(start, end, "birth-date", "birth-date", 0.9)
    for match in _BIRTH_AFTER.finditer(text):
        yield Hit(match.start(1), match.end(1), "birth-date", "birth-date", 0.8)
    for match in _PAPERS.finditer(text):
        if sum(char.isdigit() for char in match[1]) >= 4:
            yield Hit(match.start(1), match.end(1), "identity-document", "document-announced", 0.85)
    for match in _MRZ.finditer(text):
        yield Hit(match.start(), match.end(), "identity-document", "machine-readable-zone", 0.95)
    yield from _addresses(text)


def find_files(text: str) -> Iterator[Hit]:
    """Case numbers, plates and diagnoses by code, in a folded, lower-case text."""
    for pattern in (_COURT, _SOCIAL_COURT):
        for match in pattern.finditer(text):
            if not _PUBLISHED.search(text[max(0, match.start() - 64) : match.start()]):
                yield Hit(match.start(), match.end(), "case-number", "court-file", 0.8)
    for match in _CASE.finditer(text):
        if sum(char.isdigit() for char in match[1]) >= 3 and not _PUBLISHED.search(
            text[max(0, match.start() - 64) : match.start()]
        ):
            yield Hit(match.start(1), match.end(1), "case-number", "case-announced", 0.85)
    for word in _PLATE_WORD.finditer(text):
        for match in _PLATE.finditer(text, word.end(), min(len(text), word.end() + 48)):
            prose = re.fullmatch("([a-z]+) [0-9]+", match.group())
            if re.search("[0-9]", match.group()) and not (prose and prose[1] in _NOT_PLATE):
                yield Hit(match.start(), match.end(), "licence-plate", "plate-announced", 0.8)
                break
    for match in _ICD.finditer(text):
        if labelled(text, match.start(), match.end(), _ICD_WORD):
            yield Hit(match.start(), match.end(), "health", "icd-10", 0.85)
