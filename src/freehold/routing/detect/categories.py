"""Categories of what is sensitive, and what a detector says about a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

CATEGORIES: dict[str, str] = {
    "national-id": "National identity numbers",
    "tax-id": "Tax numbers",
    "social-insurance": "Numbers of social and health insurance",
    "identity-document": "Passports, identity cards, driving licences",
    "bank-account": "Bank accounts: IBAN, BIC, account numbers",
    "card": "Payment cards",
    "phone": "Telephone numbers",
    "mail": "Mail addresses",
    "birth-date": "Dates of birth",
    "case-number": "Case and file numbers of courts and authorities",
    "licence-plate": "Licence plates",
    "ip-address": "Public IP addresses of people and machines",
    "credential": "Passwords, keys and tokens",
    "health": "Health: diagnoses, treatments, medication",
    "legal": "What is confidential or under legal privilege",
    "pay": "Pay and bank details of people",
    "special": "Religion, origin, union membership, politics, sexual life, convictions (GDPR, articles 9 and 10)",
    "name": "Names on the client's own list",
    "person": "Names of people (Presidio)",
    "organisation": "Names of companies and organisations (Presidio)",
    "place": "Names of places (Presidio)",
    "group": "Nationalities, religious and political groups (Presidio)",
    "unreadable": "Content that the detectors cannot read",
}
"""Categories by identifier, with their titles."""


@dataclass(frozen=True)
class Finding:
    """That something sensitive is there; never what it is or where."""

    category: str
    """Identifier of the category, of ``CATEGORIES``."""
    detector: str
    """Name of the rule that found it, such as ``de-steuer-id``."""
    score: float
    """How sure it is, from 0 to 1."""


class Hit(NamedTuple):
    """A finding and its place in one text."""

    start: int
    end: int
    category: str
    detector: str
    score: float
