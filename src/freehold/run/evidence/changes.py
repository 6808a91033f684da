"""Section: what changed since the last pack: facts of the stack, runs, and commits of the client's folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Block, Gap, Grid, Section, Text
from freehold.run.evidence.known import Known

_TIMEOUT = 30
"""Seconds that git may take."""
_MOST = 200
"""Commits that are listed at most."""
_COMPARED = {
    "systems": ("services", "name", ("version", "host")),
    "models": ("local", "name", ("id", "engine", "revision", "digest", "files_checksum", "licence")),
    "access": ("people", "mail", ("groups", "administrator")),
    "leaving": ("providers", "name", ("region", "agreement", "language_models")),
    "retention": ("kept", "what", ("kept",)),
}
"""What is held against the last pack: section, list in it, what names an entry, what may change of it."""


def section(known: Known, others: Mapping[str, Section]) -> Section:
    """The section; ``others`` are the sections of this pack that are held against those of the last one."""
    before = known.previous
    since = datetime.fromisoformat(before["made"]) if before else None
    facts = list(_differences(before, others)) if before else []
    runs = [run for run in known.runs if since is None or run.began > since]
    commits, gaps = _commits(known, since)
    blocks: list[Block] = [
        Text(
            f"Since the last pack of {since:%d %B %Y, %H:%M} UTC."
            if since
            else "This is the first pack that is kept here: it lists what is known from the beginning."
        )
    ]
    if before:
        blocks.append(
            Grid(
                ("What", "Which", "Change"),
                tuple(facts),
                (20, 30, 50),
                title="The stack itself",
                empty="Services, language models, people, providers and retention are the same.",
            )
        )
    blocks += [
        Grid(
            ("When (UTC)", "Command", "Account", "Changes", "Ended"),
            tuple(
                (
                    f"{run.began:%Y-%m-%d %H:%M}",
                    run.verb,
                    run.by,
                    ", ".join(f"{number} in {stage}" for stage, number in run.changes.items()) or "none",
                    f"{run.ended} ({run.stage})" if run.stage else run.ended,
                )
                for run in runs
            ),
            (18, 12, 12, 38, 20),
            title="Runs of Freehold",
            empty="None that is kept.",
        ),
        Text("The newest fifty runs are kept. The account is the one of the computer that Freehold ran on."),
    ]
    if commits is not None:
        blocks.append(
            Grid(
                ("When", "Who", "What", "Commit"),
                tuple(
                    (each["when"][:16].replace("T", " "), each["who"], each["what"], each["commit"][:12])
                    for each in commits
                ),
                (18, 20, 46, 16),
                title="Commits of the client's folder",
            )
        )
    return Section(
        "changes",
        "Changes since the last pack",
        (law.PRINCIPLES, law.SECURITY, law.DEPLOYERS),
        tuple(blocks),
        {
            "since": since.isoformat() if since else None,
            "facts": [{"what": what, "which": which, "change": how} for what, which, how in facts],
            "runs": [run.as_dict() for run in runs],
            "commits": commits,
        },
        tuple(gaps),
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Section]) -> Iterator[tuple[str, str, str]]:
    for name, (key, identity, compared) in _COMPARED.items():
        section = now[name]
        old = _by(before.get("sections", {}).get(name, {}).get("data", {}).get(key), identity)
        new = _by(section.data.get(key), identity)
        for each in sorted(new.keys() - old.keys()):
            yield section.title, each, "new"
        for each in sorted(old.keys() - new.keys()):
            yield section.title, each, "gone"
        for each in sorted(old.keys() & new.keys()):
            for field in compared:
                was, is_ = old[each].get(field), new[each].get(field)
                if was != is_:
                    yield section.title, each, f"{field.replace('_', ' ')}: {_short(was)} → {_short(is_)}"


def _by(entries: Any, identity: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(entries, list):
        return {}
    return {str(entry.get(identity)): entry for entry in entries if isinstance(entry, dict)}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value not in (None, "") else "none"


def _commits(known: Known, since: datetime | None) -> tuple[list[dict[str, str]] | None, list[Gap]]:
    """Commits that touched the client's folder; None where it is in no repository."""
    directory = known.directory
    if _git(directory, "rev-parse", "--is-inside-work-tree") is None or not _git(
        directory, "ls-files", "--", known.client.loaded.path.name
    ):
        return None, [
            Gap(
                "Changes of the stack file have no author and no reason: it is in no git repository.",
                (law.PRINCIPLES, law.SECURITY),
                f"`git init` in {directory.parent}, and a commit for each change",
            )
        ]
    limit = ["--since", since.isoformat()] if since else []
    told = _git(
        directory,
        "log",
        f"--max-count={_MOST}",
        "--no-show-signature",
        *limit,
        "--format=%H%x1f%cI%x1f%an%x1f%s",
        "--",
        ".",
    )
    fields = ("commit", "when", "who", "what")
    commits = [
        dict(zip(fields, line.split("\x1f", 3), strict=True))
        for line in (told or "").splitlines()
        if line.count("\x1f") >= 3
    ]
    changed = _git(directory, "status", "--porcelain", "--untracked-files=no", "--", ".")
    gaps = []
    if changed:
        gaps.append(
            Gap(
                "The client's folder has changes that are in no commit.",
                (law.PRINCIPLES,),
                f"`git commit` in {directory}",
            )
        )
    return commits, gaps


def _git(directory: Path, *arguments: str) -> str | None:
    """What git says; None where it fails, or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
