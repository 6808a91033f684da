"""The proof of a run: Testinfra checks on every host, and their report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from freehold.errors import FreeholdError
from freehold.events import Event, Stage, Status
from freehold.run import children
from freehold.run.proof import report
from freehold.run.stages import Run

_LONGEST = 300
"""Characters of what a failed check says; the page has all of it."""


class ProofError(FreeholdError):
    """At least one check failed."""


@dataclass(frozen=True)
class Proof:
    """What was proven."""

    passed: int
    skipped: int
    junit: Path
    page: Path


def prove(run: Run, *, offline: bool = False) -> Proof:
    """Run every check on every host of the layout; write JUnit XML and a web page into the run's folder.

    With ``offline`` it is also proven that no way leads out of the hosts.

    Raises:
        ProofError: A check failed.
    """
    client = run.client
    junit, page = run.folder.path / "proof.xml", run.folder.path / "proof.html"
    failed: list[Event] = []

    def take(event: Event) -> None:
        if event.status is Status.FAILED:
            failed.append(event)
        run(event)

    with run.stage(Stage.PROOF, "Proving every host"):
        code = children.run(
            "freehold.run.proof",
            {
                "layout": client.layout.model_dump(mode="json"),
                "ssh_config": str(client.ssh().config),
                "secrets": client.secret_values(),
                "report": str(junit),
                "offline": offline,
            },
            on_event=take,
            log=run.folder.log("proof"),
            echo=run.verbosity > 1,
        )
        if junit.is_file():
            now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
            report.write_page(junit, page, client=client.stack.client, when=now)
        if failed or code:
            raise _error(failed, page, run.folder.log("proof"), code)
    checks = report.checks(junit)
    outcomes = [check.outcome for check in checks]
    return Proof(outcomes.count("passed"), outcomes.count("skipped"), junit, page)


def _error(failed: list[Event], page: Path, log: Path, code: int) -> ProofError:
    if not failed:
        return ProofError(
            f"The checks could not be run (pytest ended with {code})",
            where=str(log),
            remedy="The log says why; run the same command again with -vv.",
        )
    lines = [f"{event.host}: {event.step}: {_last(event.message)}" for event in failed[:8]]
    return ProofError(
        f"{len(failed)} checks failed" if len(failed) != 1 else "1 check failed",
        answer="\n".join(lines),
        where=str(page),
        remedy="The page shows each check with what it found. `freehold up` brings back what differs.",
    )


def _last(text: str) -> str:
    errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    line = errors[0] if errors else text.strip().splitlines()[-1] if text.strip() else ""
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
