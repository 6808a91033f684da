"""Sensitive values by category, each with words around it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from freehold.routing.detect.countries import NUMBERS
from freehold.routing.detect.money import LENGTHS, _card

NAMES = (
    "Anna Müller",
    "Jürgen Weißenborn",
    "Hans-Peter Groß",
    "Dr. Katharina von Lüdinghausen",
    "Søren Østergaard",
    "François Lefèvre",
    "Małgorzata Wiśniewska",
    "José Luis Fernández Ibarra",
    "Giulia Bellandi",
    "Pieter van den Broek",
    "Siobhán O'Connell",
    "Mehmet Yıldırım",
    "Przybylski, Tomasz",
    "Charlotte Whitcombe",
    "Nordwind Logistik GmbH",
    "Tannhäuser & Söhne KG",
    "Société Valmorin SARL",
    "Brightwater Holdings Ltd",
    "Klinik am Habichtswald",
    "Projekt Eisvogel",
)
"""The client's own list of names in all of these conversations."""


@dataclass(frozen=True)
class Value:
    """Something sensitive."""

    category: str
    kind: str
    text: str
    sentences: tuple[str, ...]
    """What people write around it; ``{}`` is the value."""
    number: bool = False
    """Whether it is made of digits and letters that can be written in many ways."""
    pieces: tuple[int, ...] = ()
    """Groups in which it is usually written."""


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _date(rng: random.Random) -> tuple[str, str, str]:
    return f"{rng.randint(1, 28):02}", f"{rng.randint(1, 12):02}", f"{rng.randint(40, 99):02}"


def _body(kind: str, shape: str, rng: random.Random) -> str:
    """A number of the right shape, whose check digits are left to chance."""
    day, month, year = _date(rng)
    letters = "".join(rng.choice("bcdfghklmnprst") for _ in range(6))
    made = {
        "at-sozialversicherung": lambda: f"{rng.randint(1000, 9999)}{day}{month}{year}",
        "ch-ahv": lambda: "756" + _digits(rng, 10),
        "be-rijksregister": lambda: f"{year}{month}{day}{_digits(rng, 5)}",
        "fr-nir": lambda: f"{rng.choice('12')}{year}{month}{rng.randint(10, 95)}{_digits(rng, 8)}",
        "fr-fiscal": lambda: f"{rng.choice('0123')}{rng.randint(1, 9)}{_digits(rng, 11)}",
        "pl-pesel": lambda: f"{year}{month}{day}{_digits(rng, 5)}",
        "se-personnummer": lambda: (
            (rng.choice(["19"]) if len(shape) == 12 else "") + f"{year}{month}{day}{_digits(rng, 4)}"
        ),
        "dk-cpr": lambda: f"{day}{month}{year}{_digits(rng, 4)}",
        "fi-hetu": lambda: (
            f"{day}{month}{year}{rng.choice('abyx')}{_digits(rng, 3)}{rng.choice('0123456789abcdefhjklmnprstuvwxy')}"
        ),
        "no-fodselsnummer": lambda: f"{day}{month}{year}{_digits(rng, 5)}",
        "cz-rodne-cislo": lambda: f"{year}{month}{day}{_digits(rng, 4)}",
        "ro-cnp": lambda: f"{rng.choice('12')}{year}{month}{day}{_digits(rng, 6)}",
        "de-rentenversicherung": lambda: (
            f"{rng.randint(10, 65)}{day}{month}{year}{letters[0]}{_digits(rng, 3)}"
        ),
        "it-codice-fiscale": lambda: (
            f"{letters}{year}{rng.choice('abcdehlmprst')}{day}{letters[1]}{_digits(rng, 3)}{rng.choice(string.ascii_lowercase)}"
        ),
        "es-nie": lambda: f"{rng.choice('xyz')}{_digits(rng, 7)}{rng.choice('trwagmyfpdxbnjzsqvhlcke')}",
        "gb-nino": f"{rng.choice('ABCEHJKLMPRSTWY')}{rng.choice('ABCEHJKLMPRSTWXYZ')}{_digits(rng, 6)}{rng.choice('ABCD')}".lower,
        "gb-driving-licence": lambda: (
            f"{letters[:5]}{rng.randint(0, 9)}{month}{day}{rng.randint(0, 9)}{letters[0]}{letters[1]}{_digits(rng, 1)}ab"
        ),
        "de-ausweis": lambda: (
            f"{rng.choice('lcfghjk')}{_digits(rng, 2)}{rng.choice('cfghjklm')}{_digits(rng, 6)}"
        ),
        "us-ssn": lambda: f"{rng.randint(100, 599)}{rng.randint(10, 99)}{rng.randint(1000, 9999)}",
        "de-steuernummer": lambda: (
            _digits(rng, 4) + "0" + _digits(rng, 8) if len(shape) == 13 else _digits(rng, len(shape))
        ),
    }.get(kind)
    if made:
        return made()
    return "".join(
        rng.choice(
            string.digits
            if char == "9"
            else string.ascii_lowercase
            if char == "A"
            else string.digits + "cfghjklmnprtvwxyz"
        )
        for char in shape
    )


_SAID = {
    "de-steuer-id": (
        "Meine Steuer-ID ist {}",
        "Bitte in das Formular eintragen: IdNr. {}",
        "Steueridentifikationsnummer: {}",
    ),
    "de-steuernummer": ("Steuernummer: {}", "Unsere St.-Nr. lautet {} beim Finanzamt Mitte"),
    "de-rentenversicherung": ("Rentenversicherungsnummer {}", "Die SV-Nummer der neuen Kollegin: {}", "{}"),
    "de-krankenversicherung": (
        "Versichertennummer {} der AOK",
        "KVNR: {}",
        "Krankenversichertennummer {} bitte prüfen",
    ),
    "de-ausweis": ("Personalausweis {}", "Reisepass-Nr. {}", "Ausweisnummer: {}"),
    "de-arztnummer": ("LANR {}", "Arztnummer: {}"),
    "at-sozialversicherung": ("SVNR {}", "Sozialversicherungsnummer: {}", "Versicherungsnummer {} (ÖGK)"),
    "at-steuernummer": ("Abgabenkontonummer {}", "Steuernummer {} beim Finanzamt Österreich"),
    "ch-ahv": ("AHV-Nummer {}", "Numéro AVS: {}", "{}"),
    "fr-nir": ("Numéro de sécurité sociale : {}", "NIR {}", "{}"),
    "fr-fiscal": ("Numéro fiscal : {}", "SPI {}"),
    "nl-bsn": ("BSN: {}", "Mijn burgerservicenummer is {}", "BSN van de medewerker: {}"),
    "be-rijksregister": ("Rijksregisternummer {}", "Numéro de registre national : {}", "{}"),
    "es-dni": ("DNI {}", "NIF del cliente: {}"),
    "es-nie": ("NIE: {}", "Su NIE es {}"),
    "es-seguridad-social": ("Número de la Seguridad Social: {}", "NUSS {}"),
    "it-codice-fiscale": ("Codice fiscale: {}", "C.F. {}", "{}"),
    "it-partita-iva": ("Partita IVA {}", "P. IVA: {}"),
    "it-carta-identita": ("Carta d'identità n. {}", "CIE {}"),
    "pl-pesel": ("PESEL: {}", "numer PESEL {}"),
    "pl-nip": ("NIP: {}", "NIP {}"),
    "pl-dowod": ("dowód osobisty {}", "Dowód osobisty nr {}"),
    "pl-paszport": ("paszport nr {}", "Paszport: {}"),
    "pt-nif": ("NIF: {}", "Número de contribuinte {}"),
    "pt-niss": ("NISS {}", "Número da Segurança Social: {}"),
    "pt-cartao": ("Cartão de cidadão {}", "CC: {}"),
    "se-personnummer": ("Personnummer: {}", "mitt personnummer är {}"),
    "dk-cpr": ("CPR-nummer: {}", "CPR {}"),
    "fi-hetu": ("henkilötunnus {}", "HETU: {}", "{}"),
    "ie-pps": ("PPS number {}", "PPSN: {}", "My PPS no is {}"),
    "gb-nino": ("National Insurance number: {}", "NI number {}"),
    "gb-nhs": ("NHS number {}", "NHS No: {}"),
    "gb-utr": ("UTR {}", "Unique Taxpayer Reference: {}"),
    "gb-driving-licence": ("Driving licence {}", "driver number on licence: {}"),
    "us-ssn": ("SSN: {}", "Social Security number {}", "her social is SSN {}"),
    "us-itin": ("ITIN {}", "Taxpayer number (ITIN): {}"),
    "no-fodselsnummer": ("Fødselsnummer: {}", "fnr {}"),
    "cz-rodne-cislo": ("Rodné číslo: {}", "r. č. / rodné číslo {}"),
    "ro-cnp": ("CNP: {}", "Cod numeric personal {}"),
}
_GROUPS = {
    "de-steuer-id": (2, 3, 3, 3),
    "de-rentenversicherung": (2, 6, 1, 3),
    "at-sozialversicherung": (4, 6),
    "ch-ahv": (3, 4, 4, 2),
    "fr-nir": (1, 2, 2, 2, 3, 3, 2),
    "be-rijksregister": (2, 2, 2, 3, 2),
    "gb-nhs": (3, 3, 4),
    "gb-nino": (2, 2, 2, 2, 1),
    "us-ssn": (3, 2, 4),
    "se-personnummer": (6, 4),
    "dk-cpr": (6, 4),
}


def _national(rng: random.Random) -> Value:
    country = rng.choice(sorted(NUMBERS))
    number = rng.choice(NUMBERS[country])
    while not number.valid(text := _body(number.detector, number.shape, rng)):
        pass
    upper = text.upper()
    return Value(
        number.category,
        number.detector,
        upper,
        _SAID[number.detector],
        True,
        _GROUPS.get(number.detector, ()) if sum(_GROUPS.get(number.detector, ())) == len(upper) else (),
    )


def _iban(rng: random.Random) -> Value:
    country = rng.choice(
        ["de"] * 6
        + ["at", "ch", "fr", "nl", "be", "es", "it", "pl", "gb", "ie", "lu", "se"] * 2
        + sorted(LENGTHS)
    )
    rest = _digits(rng, LENGTHS[country] - 4)
    if country in {"nl", "gb", "ie"}:
        rest = "".join(rng.choice(string.ascii_uppercase) for _ in range(4)) + rest[4:]
    number = "".join(str(int(char, 36)) for char in rest + country + "00")
    text = f"{country.upper()}{98 - int(number) % 97:02}{rest}"
    return Value(
        "bank-account",
        "iban",
        text,
        (
            "Bitte überweisen auf {}",
            "IBAN: {}",
            "{}",
            "Mein Konto ist {} bei der Sparkasse",
            "Please pay to {} by Friday",
            "Virement sur le compte {}",
            "Rekening {}",
            "Transfiere a la cuenta {}",
            "Bonifico su {} entro venerdì",
            "Proszę o przelew na {}",
        ),
        True,
        (4,) * (len(text) // 4) + ((len(text) % 4,) if len(text) % 4 else ()),
    )


def _payment_card(rng: random.Random) -> Value:
    prefix, length = rng.choice(
        [("4", 16), ("51", 16), ("5425", 16), ("2223", 16), ("37", 15), ("6011", 16), ("3530", 16)]
    )
    while not _card(text := prefix + _digits(rng, length - len(prefix))):
        pass
    return Value(
        "card",
        "card",
        text,
        (
            "Kreditkarte {}",
            "Card number: {}",
            "Meine Visa {} läuft im Mai ab",
            "{}",
            "Charge it to {} please",
            "carte bancaire {}",
            "tarjeta {}",
        ),
        True,
        (4, 4, 4, 4) if length == 16 else (4, 6, 5),
    )


def _pick(
    category: str, kind: str, values: Callable[[random.Random], str], *sentences: str
) -> Callable[[random.Random], Value]:
    return lambda rng: Value(category, kind, values(rng), sentences)


def _phone(rng: random.Random) -> str:
    return rng.choice(
        [
            f"+49 {rng.randint(151, 179)} {_digits(rng, 8)}",
            f"0{rng.randint(151, 179)}-{rng.randint(2, 9)}{_digits(rng, 6)}",
            f"(0{rng.randint(30, 89)}) {rng.randint(2, 9)}{_digits(rng, 3)} {_digits(rng, 4)}",
            f"0049 {rng.randint(30, 89)} / {rng.randint(2, 9)}{_digits(rng, 6)}",
            f"+43 1 {rng.randint(2, 9)}{_digits(rng, 6)}",
            f"+41 79 {_digits(rng, 3)} {_digits(rng, 2)} {_digits(rng, 2)}",
            "0" + " ".join([str(rng.randint(1, 7)), *(_digits(rng, 2) for _ in range(4))]),
            f"+33 6 {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)}",
            f"+31 6 {rng.randint(1, 9)}{_digits(rng, 7)}",
            f"+34 6{_digits(rng, 2)} {_digits(rng, 3)} {_digits(rng, 3)}",
            f"+48 {rng.randint(500, 799)} {_digits(rng, 3)} {_digits(rng, 3)}",
            f"+1 ({rng.randint(201, 989)}) {rng.randint(201, 989)}-{_digits(rng, 4)}",
            f"+44 20 {rng.randint(7000, 8999)} {_digits(rng, 4)}",
        ]
    )


def _mail(rng: random.Random) -> str:
    first = rng.choice(
        [
            "anna",
            "juergen",
            "katharina",
            "s.oestergaard",
            "f.lefevre",
            "office",
            "m_w",
            "jose.luis",
            "p.vandenbroek",
            "siobhan",
            "mehmet",
            "tomasz",
            "c-whitcombe",
        ]
    )
    domain = rng.choice(
        [
            "kanzlei-morgenstern.de",
            "habichtswald-klinik.de",
            "gmx.at",
            "bluewin.ch",
            "orange.fr",
            "ziggo.nl",
            "libero.it",
            "wp.pl",
            "gmail.com",
            "outlook.com",
            "proton.me",
        ]
    )
    plain = f"{first}{rng.choice(['', str(rng.randint(1, 99))])}@{domain}"
    return rng.choice(
        [plain] * 5
        + [
            plain.replace("@", " (at) "),
            plain.replace("@", "[at]").replace(".", "[dot]"),
            plain.replace("@", " at ").replace(".", " dot "),
            plain.upper(),
            plain.replace("@", " @ "),
        ]
    )


def _born(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1940, 2008)
    english = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ][month - 1]
    german = [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ][month - 1]
    french = [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ][month - 1]
    return rng.choice(
        [
            f"geboren am {day}.{month}.{year}", f"geb. {day:02}.{month:02}.{year % 100:02}", f"geboren am {day}. {german} {year}",
            f"Geburtsdatum: {year}-{month:02}-{day:02}", f"born on {english} {day}, {year}", f"DOB {day:02}/{month:02}/{year}",
            f"date of birth {day} {english} {year}", f"né le {day:02}/{month:02}/{year}", f"née le {day} {french} {year}", f"fecha de nacimiento: {day:02}/{month:02}/{year}",
            f"nato il {day:02}/{month:02}/{year}", f"urodzony {day:02}.{month:02}.{year}", f"geboortedatum {day:02}-{month:02}-{year}", f"* {day:02}.{month:02}.{year}",
        ]
    )  # fmt: skip


def _case(rng: random.Random) -> str:
    number, year = rng.randint(10, 4999), rng.randint(15, 26)
    return rng.choice(
        [
            f"Az. {rng.randint(1, 40)} O {number}/{year}", f"Aktenzeichen: {rng.randint(100, 999)} Js {number}/{year}", f"{rng.randint(1, 30)} C {number}/{year}",
            f"S {rng.randint(1, 30)} KR {number}/{year}", f"{rng.randint(1, 9)} Ca {number}/{year}", f"Geschäftszeichen VI-{number}-{year}/B", f"GZ 2020-0.{rng.randint(100, 999)}.{rng.randint(100, 999)}",
            f"case no. 1:{year}-cv-{number:05}", f"Case number HQ{year}X0{number:04}", f"docket no. {year}-{number}", f"n° RG {year}/{number:05}", f"zaaknummer C/13/{rng.randint(600000, 700000)}",
            f"sygn. akt II K {number}/{year}", f"expediente {number}/20{year}", f"R.G. {number}/20{year}",
        ]
    )  # fmt: skip


def _secret(rng: random.Random) -> str:
    mixed = "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(48))
    return rng.choice(
        [
            f"Passwort: {rng.choice(['Sommer', 'Berlin', 'Kanzlei', 'Qwertz'])}{rng.randint(10, 2030)}!", f"password = \"{mixed[:12]}1x\"", f"my password is {mixed[:9]}7#", f"Das WLAN-Kennwort lautet {mixed[:10]}4",
            f"mot de passe : {mixed[:8]}9!", f"contraseña: {mixed[:8]}3?", f"wachtwoord: {mixed[:9]}2", f"hasło: {mixed[:9]}5", f"PIN: {rng.randint(1000, 9999)}", f"sk-proj-{mixed}", f"ghp_{mixed[:36]}",
            f"AKIA{''.join(rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567') for _ in range(16))}", f"glpat-{mixed[:20]}", f"hf_{mixed[:34]}", f"postgres://app:{mixed[:12]}@db.intern:5432/akten",
            f"-----BEGIN OPENSSH PRIVATE KEY-----\n{mixed}\n-----END OPENSSH PRIVATE KEY-----", f"Authorization: Bearer {mixed[:40]}9", f"api_key: {mixed[:32]}", f"AWS secret access key: {mixed[:40]}", f"xoxb-{_digits(rng, 12)}-{mixed[:24]}",
        ]
    )  # fmt: skip


_HEALTH = (
    "Frau Kramer wurde gestern mit Brustkrebs diagnostiziert und fällt mindestens ein halbes Jahr aus.", "Der Patient nimmt seit 2019 Metformin 1000 mg und Ramipril.", "Diagnose F33.1 G, mittelgradige Episode, bitte Arztbrief formulieren.",
    "Ein Kollege hat mir gesagt, dass er HIV-positiv ist. Wie gehe ich damit um?", "Unsere Buchhalterin ist schwanger und hat es noch niemandem gesagt.", "Formuliere eine Antwort auf die Krankschreibung von Herrn Paulsen wegen Depressionen.",
    "My employee has been diagnosed with bipolar disorder, draft an accommodation letter.", "She is taking sertraline 50 mg and has had panic attacks since March.", "Discharge summary: 54-year-old with myocardial infarction, ICD-10 I21.4.",
    "The applicant told us she has epilepsy.", "He had a miscarriage in the family and suffers from anxiety disorder.", "Le salarié est en arrêt maladie pour dépression depuis janvier.", "Ma patiente souffre de sclérose en plaques, rédige le compte rendu.",
    "De medewerker heeft zich ziekgemeld met een burn-out.", "Mijn cliënt heeft diabetes en slikt metformine.", "El paciente presenta un trastorno de ansiedad y toma lorazepam.", "La trabajadora está embarazada y de baja médica.",
    "Il dipendente è affetto da epilessia e prende levetiracetam.", "La paziente è incinta e ha il diabete.", "Pracownik ma depresję i jest na zwolnieniu lekarskim.", "Pacjentka choruje na cukrzycę i przyjmuje insulinę.",
    "Zusammenfassung des Befundberichts: Verdacht auf Morbus Crohn.", "Der Bewerber sitzt im Rollstuhl, was müssen wir beachten?", "Antrag auf Pflegegrad 3 für meine Mutter wegen Demenz.", "Er war wegen seiner Alkoholabhängigkeit in einer Entzugsklinik.",
    "Histologie: Plattenepithelkarzinom, G2.", "Chemotherapie beginnt am Montag, bitte Dienstplan ändern.", "Sein Asthma wird durch den Staub im Lager schlimmer.", "The patient's biopsy came back malignant.", "She has ADHD and takes Ritalin.",
)  # fmt: skip
_LEGAL = (
    "Unser Mandant will den Vergleich nicht annehmen, entwirf einen Schriftsatz.", "Streng vertraulich: Die Übernahme wird am 3. Mai bekannt gegeben.", "Das Schreiben unterliegt dem Anwaltsgeheimnis.", "Verteidigungsstrategie im Strafverfahren, bitte kürzen.",
    "This memo is attorney-client privileged. Summarise it.", "PRIVILEGED AND CONFIDENTIAL - prepared in anticipation of litigation", "Our client admits that the invoice was wrong; draft a reply to opposing counsel.", "STRICTLY CONFIDENTIAL board paper on the closure of the plant",
    "Contains trade secrets of the company, do not distribute.", "Note couverte par le secret professionnel de l'avocat.", "Strictement confidentiel : plan de restructuration.", "Notre client refuse la transaction proposée.", "Strikt vertrouwelijk: conceptdagvaarding.",
    "Dit valt onder het verschoningsrecht van de advocaat.", "Documento estrictamente confidencial, resume.", "Está amparado por el secreto profesional del abogado.", "Strettamente riservato: bozza dell'accordo.", "Coperto da segreto professionale, traducilo.",
    "Ściśle poufne: projekt umowy.", "Objęte tajemnicą adwokacką, streść.", "Nur für den Dienstgebrauch: Lagebericht", "Die Mandantin hat uns die Unterlagen der Gegenseite geschickt.", "Betriebsgeheimnis: Rezeptur der Beschichtung", "For internal use only: list of planned acquisitions",
)  # fmt: skip
_PAY = (
    "Das Bruttogehalt von Frau Seidel soll auf 5.400 Euro steigen.", "Erkläre mir meine Gehaltsabrechnung vom Mai.", "Bankverbindung des Lieferanten geändert, schreib eine Mail.", "Gehaltsliste der Abteilung als Tabelle", "Lohnpfändung bei einem Mitarbeiter: Muster für die Drittschuldnererklärung",
    "Her gross salary is 82,000; write the offer.", "Bank details for the refund: account number 20431188, sort code 40-11-62", "Check this payslip for errors.", "La fiche de paie de Monsieur Renard est fausse.", "Son salaire brut est de 3 900 euros.", "Zijn brutosalaris is 4.150 euro per maand.",
    "Controleer deze loonstrook.", "Su salario bruto es de 32.000 euros.", "Revisa esta nómina.", "Controlla questa busta paga.", "Lo stipendio lordo di Rossi è 2.800 euro.", "Sprawdź ten pasek wynagrodzenia.", "Jej wynagrodzenie brutto wynosi 9 500 zł.",
    "Kontonummer 532013000, BLZ 37040044", "Konto-Nr.: 0648489890 bei der Sparkasse", "BIC: COBADEFFXXX", "SWIFT code DEUTDEFF500", "Die Abfindung von Herrn Ebert beträgt 60.000 Euro.",
)  # fmt: skip
_SPECIAL = (
    "Ist Herr Demir Muslim und braucht er Gebetszeiten?", "Der Bewerber ist Gewerkschaftsmitglied.", "Eine Mitarbeiterin ist lesbisch und wird gemobbt.", "Er ist vorbestraft wegen Betrugs.", "Ihre ethnische Herkunft soll im Bericht stehen.", "Parteimitglied der SPD seit 1999",
    "Our applicant has a criminal record.", "She is transgender and changes her name.", "He was convicted of fraud in 2016.", "The employee is a union member and Jewish.", "Le candidat est homosexuel.", "Son casier judiciaire mentionne deux condamnations.", "Il est membre du syndicat CGT.",
    "De sollicitant heeft een strafblad.", "Mijn collega is homoseksueel.", "El candidato tiene antecedentes penales.", "Es miembro del sindicato y testigo de Jehová.", "Il candidato ha precedenti penali.", "Il dipendente è iscritto al sindacato.", "Kandydat był karany za kradzież.", "Pracownik należy do związku zawodowego.",
    "Konfession laut Personalbogen: evangelisch", "Asylbewerber aus Syrien, Aufenthaltsstatus ungeklärt", "Führungszeugnis mit Eintrag", "Religious affiliation of staff: Catholic 12, none 30",
)  # fmt: skip


def _sentence(category: str, sentences: tuple[str, ...]) -> Callable[[random.Random], Value]:
    def made(rng: random.Random) -> Value:
        text = rng.choice(sentences)
        actual = (
            "bank-account"
            if category == "pay" and any(word in text for word in ("BIC", "SWIFT", "Kontonummer", "Konto-Nr"))
            else category
        )
        return Value(actual, f"{category}-sentence", text, ("{}",))

    return made


def _name(rng: random.Random) -> Value:
    name = rng.choice(NAMES)
    if "," in name:
        last, first = (part.strip() for part in name.split(","))
        name = f"{first} {last}"
    plain = name.removeprefix("Dr. ")
    person = not any(mark in name for mark in ("GmbH", "KG", "SARL", "Ltd", "Klinik", "Projekt"))
    first, _, last = plain.partition(" ")
    umlauts = plain.translate(
        str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ö": "Oe", "ø": "oe", "Ø": "Oe"})
    )
    bare = plain.translate(str.maketrans("äöüøØłśéèźóáı", "aouoOlseezoai")).replace("ß", "ss")
    forms = [
        name,
        plain,
        plain.upper(),
        plain.lower(),
        umlauts,
        bare,
        plain.replace(" ", "\n"),
        plain.replace(" ", "  "),
        f"**{plain}**",
        plain.replace(" ", "_"),
        " ".join(plain),
    ]
    if person:
        forms += [
            f"{last}, {first}",
            f"{first[0]}. {last}",
            f"{plain}s",
            f"{last} {first}",
            f"Frau {last}",
            f"Herrn {last}",
            f"{first}.{last.replace(' ', '')}",
            f"{last}, {first[0]}.",
            last,
        ]
    else:
        forms += [
            plain.replace(" ", "-"),
            plain.replace(" ", ""),
            plain.rsplit(" ", 1)[0] if len(plain.split()) > 2 and "Klinik" not in plain else plain,
        ]
    sentences = (
        "Schreibe einen Brief an {} wegen der offenen Rechnung.",
        "Was wissen wir über {}?",
        "{} hat gestern angerufen.",
        "Draft an email to {} about the meeting.",
        "Betreff: {}",
        "Résume le dossier {}.",
        "Maak een samenvatting voor {}.",
        "Prepara una carta para {}.",
        "Scrivi a {} una mail.",
        "Napisz list do {}.",
    )
    return Value("name", "names", rng.choice(forms), sentences)


SOURCES: tuple[tuple[Callable[[random.Random], Value], int], ...] = (
    (_national, 30),
    (_iban, 20),
    (_payment_card, 8),
    (_name, 20),
    (_sentence("health", _HEALTH), 9),
    (_sentence("legal", _LEGAL), 8),
    (_sentence("pay", _PAY), 7),
    (_sentence("special", _SPECIAL), 7),
    (_pick("phone", "phone", _phone, "Ruf mich an: {}", "Tel. {}", "Meine Nummer ist {}", "call {} tomorrow", "Tél. : {}", "erreichbar unter {}"), 8),
    (_pick("mail", "mail", _mail, "Antwort an {}", "E-Mail: {}", "cc {} please", "Schick es an {}", "{}"), 8),
    (_pick("birth-date", "birth-date", _born, "Der Versicherte, {}, wohnt in Kassel.", "{}", "Client file: {}"), 5),
    (_pick("case-number", "case-number", _case, "In der Sache {} brauche ich einen Entwurf.", "Unser Verfahren {}", "Re: {}", "{}"), 6),
    (_pick("credential", "credential", _secret, "{}", "Warum geht das nicht? {}", "Here is the config:\n{}"), 9),
    (_pick("identity-document", "document", lambda rng: rng.choice([f"Reisepass C{_digits(rng, 2)}X{_digits(rng, 5)}", f"Passport No. {_digits(rng, 9)}", f"Führerschein B0{_digits(rng, 7)}1{_digits(rng, 1)}", f"passeport n° {_digits(rng, 2)}AB{_digits(rng, 5)}", f"rijbewijsnummer {_digits(rng, 10)}", f"pasaporte AAB{_digits(rng, 6)}", f"passaporto YA{_digits(rng, 7)}", f"driver's license D{_digits(rng, 7)}"]), "{}", "Anlage: Kopie, {}", "Bitte prüfen: {}"), 5),
    (_pick("licence-plate", "plate", lambda rng: rng.choice([f"Kennzeichen {rng.choice(['KS', 'B', 'HH', 'M'])}-{rng.choice(['AB', 'X', 'TZ'])} {rng.randint(1, 9999)}", f"licence plate AB{rng.randint(10, 99)} CDE", f"plaque AB-{rng.randint(100, 999)}-CD", f"matrícula {rng.randint(1000, 9999)} BCD", f"targa AB {rng.randint(100, 999)} CD", f"kenteken {rng.choice(['G', 'K'])}-{rng.randint(100, 999)}-BB", f"numer rejestracyjny WA {rng.randint(10000, 99999)}"]), "Unfall, {}, bitte Schreiben an die Versicherung", "{}"), 4),
    (_pick("ip-address", "ip", lambda rng: f"{rng.choice([81, 84, 91, 93, 217])}.{rng.randint(1, 250)}.{rng.randint(1, 250)}.{rng.randint(1, 250)}", "Login von der IP-Adresse {} um 3 Uhr", "client {} failed to authenticate", "Who is behind IP {}?"), 3),
)  # fmt: skip
"""Makers of values, with how often each is asked."""
