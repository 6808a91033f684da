"""The articles that the sections of an evidence pack serve: what each asks, in a sentence, and since when.

Source: Regulation (EU) 2024/1689 (AI Act) with its dates as moved by the Digital Omnibus of June 2026, and Regulation (EU)
2016/679 (GDPR). The sentences are shortened, and not legal advice.
"""

from __future__ import annotations

from dataclasses import dataclass

_HIGH_RISK = "from 2 December 2027, for high-risk systems"
_GDPR = "since 25 May 2018"


@dataclass(frozen=True)
class Article:
    """One article."""

    law: str
    number: str
    title: str
    asks: str
    applies: str

    @property
    def short(self) -> str:
        """Law and number, such as ``GDPR Art. 30``."""
        return f"{self.law} {self.number}"


ARTICLES = (
    Article(
        "AI Act",
        "Art. 4",
        "AI literacy",
        "Who uses AI systems sees to it that its people know enough of them, for what they do with them.",
        "since 2 February 2025",
    ),
    Article(
        "AI Act",
        "Annex III",
        "High-risk uses (Art. 6)",
        "Lists uses that are high-risk, such as choosing applicants, judging creditworthiness or assisting judges; whoever "
        "uses an AI system knows whether its use is among them.",
        _HIGH_RISK,
    ),
    Article(
        "AI Act",
        "Art. 12",
        "Record-keeping",
        "High-risk systems record events by themselves over their whole life, so that what happened can be traced.",
        _HIGH_RISK,
    ),
    Article(
        "AI Act",
        "Art. 14",
        "Human oversight",
        "People can oversee a high-risk system while it is used: understand it, not rely on it blindly, and stop it.",
        _HIGH_RISK,
    ),
    Article(
        "AI Act",
        "Art. 26",
        "Duties of deployers",
        "Who uses a high-risk system follows its instructions, assigns oversight to competent people, watches it, keeps its "
        "logs for at least six months and informs employees.",
        _HIGH_RISK,
    ),
    Article(
        "AI Act",
        "Art. 50",
        "Transparency",
        "People are told that they deal with an AI system, unless it is obvious.",
        "since 2 August 2026 (marking of generated content: from 2 December 2026)",
    ),
    Article(
        "GDPR",
        "Art. 5",
        "Principles",
        "Personal data is processed for a stated purpose, no more and no longer than needed, safely, and whoever is "
        "responsible can show it.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 25",
        "Data protection by design and by default",
        "Technology is chosen and set so that only the personal data that a purpose needs is processed.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 28",
        "Processors",
        "Who lets others process personal data has a contract with each of them that says what they may do.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 30",
        "Records of processing activities",
        "A register says of each activity: who, what for, whose data and which, who receives it, where it goes, when it is "
        "erased, and how it is protected.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 32",
        "Security of processing",
        "Measures that fit the risk protect personal data, and it is tested regularly whether they work.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 35",
        "Data protection impact assessment",
        "Before processing that is likely a high risk for people, its consequences are assessed and written down.",
        _GDPR,
    ),
    Article(
        "GDPR",
        "Art. 44",
        "Transfers to other countries",
        "Personal data leaves the European Economic Area only where chapter V allows it.",
        _GDPR,
    ),
)

BY_NAME = {article.short: article for article in ARTICLES}

LITERACY, ANNEX_III = "AI Act Art. 4", "AI Act Annex III"
RECORDS, OVERSIGHT, DEPLOYERS, TRANSPARENCY = (f"AI Act Art. {number}" for number in (12, 14, 26, 50))
PRINCIPLES, BY_DESIGN, PROCESSORS, REGISTER = (f"GDPR Art. {number}" for number in (5, 25, 28, 30))
SECURITY, ASSESSMENT, TRANSFERS = (f"GDPR Art. {number}" for number in (32, 35, 44))
