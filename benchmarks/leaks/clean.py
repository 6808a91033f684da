# ruff: noqa: ARG005, S608  (every template takes the choices; the SQL is a question about SQL)
"""What people ask in an office that nobody would mind leaving it, numbers that look like others included."""

from __future__ import annotations

import random
from collections.abc import Callable

_PRODUCTS = [
    "Bürostuhl",
    "Kaffeemaschine",
    "Drucker",
    "Notebook",
    "Monitor",
    "Headset",
    "Regal",
    "Beamer",
    "Router",
    "Whiteboard",
]
_TOPICS = (
    "Zeitmanagement", "Remote-Arbeit", "Kundenzufriedenheit", "Nachhaltigkeit im Einkauf", "Messeplanung", "Lieferketten", "Projektsteuerung",
    "change management", "team building", "quarterly planning", "supply chains", "search engine optimisation", "product launches", "data visualisation",
)  # fmt: skip
_CITIES = [
    "Kassel",
    "Wien",
    "Zürich",
    "Lyon",
    "Gent",
    "Utrecht",
    "Sevilla",
    "Turin",
    "Posen",
    "Porto",
    "Malmö",
    "Odense",
    "Tampere",
    "Cork",
    "Leeds",
    "Boston",
]


def _n(rng: random.Random, low: int, high: int) -> int:
    return rng.randint(low, high)


def _d(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _date(rng: random.Random) -> str:
    day, month, year = _n(rng, 1, 28), _n(rng, 1, 12), _n(rng, 2020, 2027)
    return rng.choice(
        [
            f"{day}.{month}.{year}",
            f"{day:02}.{month:02}.{year}",
            f"{year}-{month:02}-{day:02}",
            f"{day:02}/{month:02}/{year}",
        ]
    )


def _isbn(rng: random.Random) -> str:
    body = "978" + _d(rng, 9)
    check = (10 - sum(int(char) * (3 if place % 2 else 1) for place, char in enumerate(body)) % 10) % 10
    return rng.choice([f"{body}{check}", f"{body[:3]}-{body[3]}-{body[4:8]}-{body[8:12]}-{check}"])


Template = Callable[[random.Random], str]

QUESTIONS: tuple[Template, ...] = (
    lambda r: (
        f"Schreibe eine freundliche Einladung zum Sommerfest am {_date(r)} um {_n(r, 14, 19)} Uhr in {r.choice(_CITIES)}."
    ),
    lambda r: (
        f"Erstelle eine Gliederung für einen Vortrag über {r.choice(_TOPICS)} mit {_n(r, 5, 12)} Folien."
    ),
    lambda r: f"Formuliere eine Absage an einen Lieferanten von {r.choice(_PRODUCTS)}en, höflich und kurz.",
    lambda r: (
        f'Wie berechne ich in Excel die Summe der Zellen A{_n(r, 1, 9)} bis A{_n(r, 10, 99)}, wenn in Spalte B "ja" steht?'
    ),
    lambda r: f"Was ist {_n(r, 100, 9999)} * {_n(r, 100, 9999)} + {_n(r, 10000, 99999)}?",
    lambda r: (
        f"Rechne {_n(r, 100, 999)}.{_d(r, 3)},{_d(r, 2)} Euro netto mit 19 % Umsatzsteuer in brutto um."
    ),
    lambda r: (
        f"Bestellnummer {_d(r, r.choice([8, 9, 10, 11]))}: Entwirf eine Nachfrage, wann die Ware kommt."
    ),
    lambda r: f"Die Auftragsnummer lautet {_d(r, 10)}. Wie formuliere ich eine Stornierung?",
    lambda r: (
        f"Rechnung Nr. {_n(r, 2020, 2027)}-{_d(r, 5)} ist noch offen. Bitte eine freundliche Zahlungserinnerung ohne Namen."
    ),
    lambda r: (
        f"Artikel {_d(r, 7)} und Artikel {_d(r, 7)} sollen verglichen werden, welche Kriterien nehme ich?"
    ),
    lambda r: (
        f"Übersetze ins Englische: Das Gerät {r.choice('ABXK')}{_d(r, 3)}-{_d(r, 4)} ist ab Lager lieferbar."
    ),
    lambda r: (
        f"Aktualisiere bitte die Release Notes: Version {_n(r, 1, 20)}.{_n(r, 0, 30)}.{_n(r, 0, 9)} behebt {_n(r, 2, 20)} Fehler."
    ),
    lambda r: f"Fasse in drei Sätzen zusammen, was {r.choice(_TOPICS)} bedeutet.",
    lambda r: f"Das Buch mit der ISBN {_isbn(r)} suche ich in einer Bibliothek; wie zitiere ich es?",
    lambda r: (
        f"Plane eine Agenda für {_date(r)}: Beginn {_n(r, 8, 10)}:00, Ende {_n(r, 15, 18)}:30, drei Pausen."
    ),
    lambda r: (
        f"Unsere Messe in Halle {_n(r, 1, 12)}, Stand {r.choice('ABCD')}{_n(r, 10, 99)}: schreibe einen Text für LinkedIn."
    ),
    lambda r: "Wie lautet die Formel für den Zinseszins? Zeige ein Beispiel mit 10.000 Euro über 12 Jahre.",
    lambda r: f"Erzeuge 10 Ideen für einen Slogan für einen {r.choice(_PRODUCTS)}.",
    lambda r: (
        "Korrigiere die Rechtschreibung: Wir freuen uns auf ihren Besuch und stehen für Rückfragen gerne zu verfügung."
    ),
    lambda r: (
        f"Wandle die Liste in eine Tabelle um: {r.choice(_PRODUCTS)} {_n(r, 50, 900)} Euro, {r.choice(_PRODUCTS)} {_n(r, 50, 900)} Euro, {r.choice(_PRODUCTS)} {_n(r, 50, 900)} Euro."
    ),
    lambda r: (
        f"Wie weit ist es von {r.choice(_CITIES)} nach {r.choice(_CITIES)} mit dem Zug, und was spricht dafür?"
    ),
    lambda r: "Schreibe eine Abwesenheitsnotiz für zwei Wochen Urlaub, deutsch und englisch.",
    lambda r: "Was ist der Unterschied zwischen Werkvertrag und Dienstvertrag, allgemein erklärt?",
    lambda r: "Welche Fristen gelten allgemein für die Aufbewahrung von Rechnungen?",
    lambda r: "Erkläre einem Azubi, was Skonto ist.",
    lambda r: (
        f'Wie richte ich in Outlook eine Regel ein, die Mails mit "{r.choice(_PRODUCTS)}" im Betreff verschiebt?'
    ),
    lambda r: (
        f"Schreibe eine Produktbeschreibung für einen {r.choice(_PRODUCTS)}, {_n(r, 20, 80)} x {_n(r, 20, 80)} x {_n(r, 20, 80)} cm, {_n(r, 2, 30)},{_n(r, 1, 9)} kg."
    ),
    lambda r: f"Die Sendungsnummer ist {_d(r, 20)}; wie frage ich beim Paketdienst nach?",
    lambda r: f"EAN {_d(r, 13)}: Wofür steht die Prüfziffer?",
    lambda r: "Wie begründe ich, dass wir einen zweiten Bildschirm pro Arbeitsplatz brauchen?",
    lambda r: f"Teile {_n(r, 20, 200)} Personen in Gruppen zu je {_n(r, 4, 9)} auf, wie viele bleiben übrig?",
    lambda r: f"Wie viele Arbeitstage liegen zwischen {_date(r)} und {_date(r)}?",
    lambda r: "Welche Vorteile hat eine Wärmepumpe für ein Bürogebäude von 1970?",
    lambda r: "Gib mir fünf Fragen für ein Vorstellungsgespräch im Vertrieb.",
    lambda r: "Schreibe eine Stellenanzeige für eine Sachbearbeitung im Einkauf, 30 Stunden pro Woche.",
    lambda r: (
        f"Ticket #{_d(r, 6)}: Der Drucker im {_n(r, 1, 5)}. Stock druckt nur leere Seiten. Was prüfe ich zuerst?"
    ),
    lambda r: f"write a polite reminder for the invoice {_d(r, 8)} that is {_n(r, 5, 30)} days overdue",
    lambda r: f"Summarise the advantages of {r.choice(_TOPICS)} in {_n(r, 3, 8)} bullet points.",
    lambda r: f"Order no. {_d(r, 9)} arrived damaged; draft a complaint to the shop.",
    lambda r: (
        f"Convert {_n(r, 10, 900)} miles to kilometres and {_n(r, 50, 110)} degrees Fahrenheit to Celsius."
    ),
    lambda r: (
        f"Draft a press release for our new {r.choice(['coffee machine', 'office chair', 'monitor'])} model {r.choice('XYZ')}-{_n(r, 100, 900)}."
    ),
    lambda r: "Explain the difference between gross and net margin with an example.",
    lambda r: f"What is {_n(r, 2, 99)}% of {_n(r, 1000, 99999)}? Show the steps.",
    lambda r: (
        f"Tracking number {r.choice(['1Z', 'JD', 'RR'])}{_d(r, 16)} shows no update, what may be the reason?"
    ),
    lambda r: (
        f"Our server runs nginx/1.{_n(r, 10, 27)}.{_n(r, 0, 9)} on Debian {_n(r, 11, 13)}; how do I enable HTTP/2?"
    ),
    lambda r: (
        f"pip fails: Could not find a version that satisfies the requirement numpy=={_n(r, 1, 2)}.{_n(r, 0, 30)}.{_n(r, 0, 6)}"
    ),
    lambda r: (
        f"Why does my query take {_n(r, 2, 90)} s? SELECT id, total FROM orders WHERE created_at > '{_n(r, 2020, 2026)}-0{_n(r, 1, 9)}-1{_n(r, 0, 9)}' AND status = {_n(r, 1, 9)};"
    ),
    lambda r: (
        f"```python\ndef area(width: float, height: float) -> float:\n    return width * height\n\nprint(area({_n(r, 1, 99)}.{_n(r, 0, 9)}, {_n(r, 1, 99)}))\n```\nAdd type checks and tests."
    ),
    lambda r: (
        f"```js\nconst timeout = {_n(r, 1000, 90000)};\nsetTimeout(() => fetch('/api/v{_n(r, 1, 4)}/items?page={_n(r, 1, 99)}'), timeout);\n```\nMake it async."
    ),
    lambda r: (
        f"Explain this log line: [{_n(r, 2021, 2026)}-0{_n(r, 1, 9)}-2{_n(r, 0, 8)} 0{_n(r, 0, 9)}:{_n(r, 10, 59)}:{_n(r, 10, 59)}] WARN worker-{_n(r, 1, 16)} queue length {_n(r, 100, 9999)} exceeds {_n(r, 50, 100)}"
    ),
    lambda r: (
        f"git revert of commit {''.join(r.choice('0123456789abcdef') for _ in range(40))} conflicts, how do I go on?"
    ),
    lambda r: (
        f"What does HTTP status {r.choice([301, 404, 418, 429, 502])} mean and how do I fix it in Caddy?"
    ),
    lambda r: (
        f"docker pull registry.local/app@sha256:{''.join(r.choice('0123456789abcdef') for _ in range(64))} is slow"
    ),
    lambda r: (
        f"Write a regular expression for version numbers such as {_n(r, 0, 9)}.{_n(r, 0, 20)}.{_n(r, 0, 99)}-rc{_n(r, 1, 4)}."
    ),
    lambda r: (
        f"The UUID {_hex(r, 8)}-{_hex(r, 4)}-4{_hex(r, 3)}-a{_hex(r, 3)}-{_hex(r, 12)} appears twice in our export; how can that be?"
    ),
    lambda r: f"The unix timestamp {_n(r, 1500000000, 1790000000)} is which date?",
    lambda r: "How do I reset my password in the portal? Write a short how-to for new staff.",
    lambda r: "Write a YAML example for a GitHub workflow that runs pytest on three Python versions.",
    lambda r: "password: str = Field(min_length=12)  # explain what this line of pydantic does",
    lambda r: 'db_password = os.environ["DB_PASSWORD"]  -- is this a good way to handle it?',
    lambda r: (
        f"Resistor values {_n(r, 1, 9)}k{_n(r, 1, 9)} and {_n(r, 10, 99)}0R in parallel, what is the total?"
    ),
    lambda r: (
        f"Part number {_d(r, 4)}-{_d(r, 3)}-{_d(r, 2)} is discontinued. Suggest wording for our web shop."
    ),
    lambda r: f"The ratio {_n(r, 100, 999)}:{_n(r, 100, 999)} simplified?",
    lambda r: f"Sort: {', '.join(str(_n(r, 1, 9999)) for _ in range(12))}",
    lambda r: f"Mean and standard deviation of {' '.join(str(_n(r, 10, 99)) for _ in range(15))}",
    lambda r: (
        f"Umsatz nach Quartal: Q1 {_n(r, 100, 999)}.{_d(r, 3)}, Q2 {_n(r, 100, 999)}.{_d(r, 3)}, Q3 {_n(r, 100, 999)}.{_d(r, 3)}, Q4 {_n(r, 100, 999)}.{_d(r, 3)}. Beschreibe den Verlauf."
    ),
    lambda r: (
        f"Monat;Stück;Preis\nJanuar;{_n(r, 100, 999)};{_n(r, 1, 99)},{_d(r, 2)}\nFebruar;{_n(r, 100, 999)};{_n(r, 1, 99)},{_d(r, 2)}\nMärz;{_n(r, 100, 999)};{_n(r, 1, 99)},{_d(r, 2)}\nErstelle ein Diagramm."
    ),
    lambda r: (
        f"Write a haiku about {r.choice(['the office in autumn', 'coffee', 'deadlines', 'the printer'])}."
    ),
    lambda r: "What are the main differences between the GDPR and the California Consumer Privacy Act?",
    lambda r: f"List {_n(r, 3, 9)} icebreaker questions for a workshop with {_n(r, 8, 40)} people.",
    lambda r: "Proofread: Their is many reasons to chose our product, it's quality is outstanding.",
    lambda r: (
        f"Plan a three-day trip to {r.choice(_CITIES)} for a sales team, budget {_n(r, 500, 3000)} EUR per person."
    ),
    lambda r: (
        f"Rédige une invitation pour une réunion le {_date(r)} à {_n(r, 9, 17)} h sur {r.choice(['les ventes', 'le budget de formation', 'le nouveau site'])}."
    ),
    lambda r: f"Traduis en allemand : Votre commande n° {_d(r, 8)} sera livrée sous {_n(r, 2, 9)} jours.",
    lambda r: "Explique la différence entre HT et TTC avec un exemple simple.",
    lambda r: f"Résume les avantages du télétravail en {_n(r, 3, 8)} points.",
    lambda r: "Propose cinq titres pour un article sur le recyclage au bureau.",
    lambda r: "Corrige les fautes : Nous avons recu vos question et nous repondrons bientot.",
    lambda r: f"Schrijf een uitnodiging voor de borrel op {_date(r)} om {_n(r, 16, 18)} uur.",
    lambda r: f"Vat in {_n(r, 3, 6)} punten samen waarom wij op ledverlichting overstappen.",
    lambda r: f"Bestelnummer {_d(r, 9)}: schrijf een korte mail om de levertijd te vragen.",
    lambda r: "Hoe maak ik in Excel een draaitabel met omzet per maand?",
    lambda r: f"Escribe una invitación para la feria del {_date(r)} en el pabellón {_n(r, 1, 12)}.",
    lambda r: f"Pedido número {_d(r, 9)}: redacta una reclamación por retraso.",
    lambda r: "Explica qué es un balance de situación con un ejemplo sencillo.",
    lambda r: "Dame cinco ideas para mejorar la página de inicio de una tienda en línea.",
    lambda r: f"Scrivi un invito per la riunione del {_date(r)} alle ore {_n(r, 9, 17)}.",
    lambda r: f"Riassumi i vantaggi dei pannelli solari in {_n(r, 3, 6)} punti.",
    lambda r: f"Ordine n. {_d(r, 8)}: scrivi una mail per chiedere la data di consegna.",
    lambda r: "Spiega la differenza tra costi fissi e costi variabili.",
    lambda r: f"Napisz zaproszenie na szkolenie w dniu {_date(r)} o godzinie {_n(r, 9, 16)}.",
    lambda r: f"Zamówienie nr {_d(r, 9)}: napisz krótką reklamację.",
    lambda r: "Wyjaśnij różnicę między kosztem stałym a zmiennym.",
    lambda r: "Zaproponuj pięć tytułów artykułu o pracy zdalnej.",
    lambda r: (
        f"Wie ist der Wechselkurs von {_n(r, 100, 9000)} US-Dollar in Euro ungefähr, wenn 1 USD = 0,9{_n(r, 0, 9)} EUR?"
    ),
    lambda r: (
        f"Öffnungszeiten: Mo-Fr {_n(r, 7, 9)}-{_n(r, 16, 19)} Uhr, Sa 9-13 Uhr. Mach daraus einen Aushang."
    ),
    lambda r: (
        f"Raum {_n(r, 1, 5)}.{_n(r, 10, 40)} ist am {_date(r)} belegt. Formuliere eine Umbuchung nach Raum {_n(r, 1, 5)}.{_n(r, 10, 40)}."
    ),
    lambda r: f"Seriennummer {r.choice(['SN', 'S/N'])} {_hex(r, 10).upper()}: Garantiefall formulieren.",
    lambda r: (
        f"Die Charge {_d(r, 8)} hat eine Abweichung von 0,{_d(r, 4)} mm; schreibe einen Prüfbericht-Absatz."
    ),
    lambda r: (
        f"DIN EN ISO {r.choice(['9001', '27001', '14001'])}:{_n(r, 2013, 2023)} - was ist der Kern dieser Norm?"
    ),
    lambda r: f"Unterschied zwischen § {_n(r, 200, 900)} BGB und § {_n(r, 200, 900)} HGB allgemein erklären",
    lambda r: "Welche Kaufkriterien gibt es bei Firmenwagen mit Elektroantrieb?",
    lambda r: f"Formel für die Fläche eines Kreises mit Radius {_n(r, 1, 99)},{_n(r, 1, 9)} m?",
    lambda r: (
        f"Der Server 192.168.{_n(r, 0, 254)}.{_n(r, 1, 254)} antwortet nicht auf ping, wie grenze ich das ein?"
    ),
    lambda r: (
        f"Die IP-Adresse 10.{_n(r, 0, 254)}.{_n(r, 0, 254)}.{_n(r, 1, 254)}/24: Wie viele Hosts sind das?"
    ),
    lambda r: f"Entwickle ein Quiz mit {_n(r, 5, 15)} Fragen zur Geschichte von {r.choice(_CITIES)}.",
    lambda r: "Hilf mir, einen Konflikt im Team über die Fensterplätze sachlich anzusprechen.",
    lambda r: f"Inventarnummer {_d(r, 9)} fehlt in der Liste, wie baue ich in Excel einen SVERWEIS dafür?",
    lambda r: (
        f"pH {_n(r, 4, 9)},{_n(r, 0, 9)}, Leitfähigkeit {_n(r, 100, 999)} µS/cm: Ist das als Kühlwasser üblich?"
    ),
    lambda r: (
        f"Diagnose a slow network between two switches, firmware {_n(r, 1, 9)}.{_n(r, 0, 9)}.{_n(r, 1, 30)}, please list steps."
    ),
    lambda r: f"base64 of 'hello world {_n(r, 1, 99)}' please, and how does padding work?",
    lambda r: "Decode SGVsbG8gd29ybGQsIHRoaXMgaXMgYSB0ZXN0 and explain the alphabet.",
    lambda r: (
        f"color: #{_hex(r, 6)}; margin: {_n(r, 1, 40)}px {_n(r, 1, 40)}px; -- convert to Tailwind classes"
    ),
    lambda r: f"GPS {_n(r, 47, 54)}.{_d(r, 6)}, {_n(r, 6, 15)}.{_d(r, 6)}: Which town is near?",
    lambda r: (
        "Sehr geehrte Damen und Herren, wir bitten um ein Angebot über 40 Arbeitsstunden Gartenpflege. -- Bitte höflicher."
    ),
    lambda r: (
        f"Fasse das Protokoll zusammen: TOP 1 Budget {_n(r, 10, 90)} T€ beschlossen, TOP 2 vertagt auf {_date(r)}, TOP 3 Küche: neue Spülmaschine."
    ),
    lambda r: "Welche Pflanzen eignen sich für ein Büro mit wenig Licht?",
    lambda r: (
        f"Was kostet der Versand von {_n(r, 2, 40)} kg nach {r.choice(_CITIES)} ungefähr, nach Gewicht gestaffelt?"
    ),
    lambda r: (
        f"SKU {r.choice('ABC')}{_d(r, 8)} und SKU {r.choice('ABC')}{_d(r, 8)} zusammenlegen: Welche Risiken hat das im Shop?"
    ),
    lambda r: "Schreibe einen Toast auf 25 Jahre Firmengeschichte, zwei Minuten lang.",
)
"""Questions that may leave."""

FILLER = (
    "Die Abteilung hat im vergangenen Quartal mehrere Prozesse überarbeitet und dabei besonders auf kurze Wege geachtet. Die Rückmeldungen waren überwiegend gut, einzelne Punkte bleiben offen.",
    "Für das nächste Jahr sind drei Schwerpunkte geplant: schnellere Angebote, bessere Dokumentation und ein neues Lagerkonzept. Die Kosten dafür sind im Budget enthalten.",
    "The project team met every other week and reported its progress on one page. Risks were rated green, amber or red, and only two of them changed their colour.",
    "Participants liked the short format. They asked for more examples, fewer slides and a list of further reading, which will be sent after the next session.",
    "Le site sera mis à jour au printemps. Les textes seront plus courts, les images plus légères, et la recherche répondra plus vite.",
    "De nieuwe werkwijze bevalt goed. Er zijn minder vragen per mail en de planning klopt vaker.",
    "La nueva guía explica en diez páginas cómo se preparan las ofertas y quién las revisa.",
    "Il magazzino è stato riorganizzato per famiglie di prodotti; la ricerca di un articolo richiede ora meno di due minuti.",
    "Nowy harmonogram przewiduje cztery spotkania w miesiącu i jedną krótką ankietę po każdym z nich.",
)
"""Paragraphs of documents."""

REPLIES = (
    "Gerne. Hier ist ein Entwurf:",
    "Here is a first version. Tell me what to change.",
    "Verstanden. Was fehlt noch?",
    "Bien sûr, voici une proposition.",
    "OK.",
)
"""What a language model answers."""


def _hex(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789abcdef") for _ in range(count))
