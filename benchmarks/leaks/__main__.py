"""Measures the detectors alone: what they miss, what they hold back, by category and spelling, and how long they take."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from benchmarks.leaks.corpus import HELD_OUT_SEED, SEED, Conversation, conversations, unclaimed
from benchmarks.leaks.values import NAMES

from freehold.routing.detect import CATEGORIES, Detectors, NotJudgedError


def measure(made: list[Conversation], detectors: Detectors) -> dict[str, Any]:
    """Figures over some conversations."""
    held = Counter[str]()
    total = Counter[str]()
    right = Counter[str]()
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    missed: list[Conversation] = []
    wrong: list[tuple[Conversation, list[str]]] = []
    spelled: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    times = []
    for conversation in made:
        start = time.process_time()
        try:
            found = [(finding.category, finding.detector) for finding in detectors.scan(conversation.texts())]
        except NotJudgedError:
            found = [("not judged", "")]
        times.append((time.process_time() - start) * 1000)
        kind = conversation.category or "clean"
        total[kind] += 1
        held[kind] += bool(found)
        for category in {category for category, _ in found} or {"nothing"}:
            confusion[kind][category] += 1
        if conversation.sensitive:
            right[kind] += any(category == conversation.category for category, _ in found)
            spelled[conversation.spelling][0] += 1
            spelled[conversation.spelling][1] += not found
            if not found:
                missed.append(conversation)
        elif found:
            wrong.append((conversation, [f"{category}/{detector}" for category, detector in found]))
    sensitive = sum(count for kind, count in total.items() if kind != "clean")
    return {
        "conversations": len(made),
        "sensitive": sensitive,
        "leaked": len(missed),
        "clean": total["clean"],
        "held_back_wrongly": len(wrong),
        "held_back_wrongly_percent": round(100 * len(wrong) / total["clean"], 2) if total["clean"] else None,
        "milliseconds": {
            "median": round(statistics.median(times), 2),
            "p95": round(sorted(times)[int(len(times) * 0.95)], 2),
            "most": round(max(times), 2),
        },
        "categories": {
            kind: {
                "conversations": total[kind],
                "held": held[kind],
                "leaked": total[kind] - held[kind] if kind != "clean" else None,
                "found_as_what_it_is": right[kind] if kind != "clean" else None,
                "found_as": dict(confusion[kind].most_common()),
            }
            for kind in [*CATEGORIES, "clean"]
            if total[kind]
        },
        "spellings": {
            name: {"conversations": count, "leaked": lost} for name, (count, lost) in sorted(spelled.items())
        },
        "missed": missed,
        "wrong": wrong,
    }


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'category':20} {'all':>6} {'held':>6} {'leaked':>7} {'as itself':>10}   most often found as"]
    for kind, row in figures["categories"].items():
        others = ", ".join(f"{name} {count}" for name, count in list(row["found_as"].items())[:4])
        leaked = "" if row["leaked"] is None else row["leaked"]
        itself = "" if row["found_as_what_it_is"] is None else row["found_as_what_it_is"]
        lines.append(
            f"{kind:20} {row['conversations']:6} {row['held']:6} {leaked!s:>7} {itself!s:>10}   {others}"
        )
    return "\n".join(lines)


def main() -> int:
    """The command; 1 where something leaked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"{HELD_OUT_SEED} is the held-out one")
    parser.add_argument("--sensitive", type=int, default=1600)
    parser.add_argument("--clean", type=int, default=800)
    parser.add_argument("--show", action="store_true", help="show what leaked and what was held back wrongly")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument(
        "--unclaimed",
        action="store_true",
        help="numbers in spellings that the detectors do not claim to read",
    )
    wanted = parser.parse_args()
    made = (
        unclaimed(wanted.seed)
        if wanted.unclaimed
        else conversations(wanted.seed, wanted.sensitive, wanted.clean)
    )
    figures = measure(made, Detectors(names=NAMES))
    missed, wrong = figures.pop("missed"), figures.pop("wrong")
    if wanted.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        print(_table(figures))
        print(
            f"\nsensitive: {figures['sensitive']}, leaked: {figures['leaked']}; clean: {figures['clean']},"
            f" held back wrongly: {figures['held_back_wrongly']} ({figures['held_back_wrongly_percent']} %);"
            f" a conversation takes {figures['milliseconds']['median']} ms (p95 {figures['milliseconds']['p95']} ms) of processor time"
        )
        if wanted.unclaimed:
            for name, row in figures["spellings"].items():
                print(f"{name:24} {row['conversations']:4} leaked {row['leaked']}")
    if wanted.show:
        for conversation in missed:
            print(
                "LEAKED",
                conversation.kind,
                "|",
                conversation.spelling,
                "|",
                conversation.placement,
                "|",
                conversation.texts(),
            )
        for conversation, found in wrong:
            print("HELD", found, conversation.texts())
    return 1 if missed and not wanted.unclaimed else 0


if __name__ == "__main__":
    sys.exit(main())
