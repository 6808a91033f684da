"""Sections: the last proof, where language models are really computed, and known faults."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Block, Facts, Gap, Grid, Section, Text
from freehold.run.evidence.known import Known
from freehold.run.evidence.runs import PastRun
from freehold.run.evidence.tables import listed
from freehold.run.proof.report import Check

_OLD = timedelta(days=31)
"""From which age on a proof is called old."""
_GPU = "gpu truth"


def latest(known: Known) -> tuple[PastRun, list[Check]] | None:
    """The newest run that proved something, and its checks."""
    for run in known.runs:
        if checks := run.checks:
            return run, checks
    return None


def section(known: Known) -> Section:
    """Section: the last proof."""
    found = latest(known)
    articles = (law.SECURITY, law.PRINCIPLES)
    command = f"`freehold verify {known.name}`"
    if found is None:
        return Section(
            "proofs",
            "Last proof",
            articles,
            (Text("No report of a proof is kept here."),),
            {"run": None},
            (Gap("The stack was never proven from here.", articles, command),),
        )
    run, checks = found
    count = Counter(check.outcome for check in checks)
    failed = [check for check in checks if check.outcome == "failed"]
    skipped = [check for check in checks if check.outcome == "skipped"]
    gaps = []
    if failed:
        gaps.append(
            Gap(
                f"Checks of the last proof that failed: {len(failed)}.",
                (law.SECURITY,),
                f"`freehold up {known.name}`, then {command}",
            )
        )
    if known.now - run.began > _OLD:
        gaps.append(Gap(f"The last proof is of {run.began:%d %B %Y}.", (law.SECURITY,), command))
    newer = [each for each in known.runs if each.began > run.began and each.changes]
    if newer:
        gaps.append(
            Gap(f"Runs that changed something since the last proof: {len(newer)}.", (law.SECURITY,), command)
        )
    per_host = Counter((check.host or "all hosts", check.outcome) for check in checks)
    blocks: list[Block] = [
        Facts(
            (
                (
                    "Run",
                    f"`freehold {run.verb}` of {run.began:%d %B %Y, %H:%M} UTC, by the account {run.by}",
                ),
                (
                    "Checks",
                    f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped",
                ),
                ("Report", "proofs/proof.xml (JUnit) and proofs/proof.html"),
            )
        ),
        Grid(
            ("Host", "Passed", "Failed", "Skipped"),
            tuple(
                (host, *(str(per_host[host, outcome]) for outcome in ("passed", "failed", "skipped")))
                for host in sorted({host for host, _ in per_host})
            ),
            (55, 15, 15, 15),
        ),
    ]
    if failed or skipped:
        blocks.append(
            Grid(
                ("Host", "Check", "Result"),
                tuple((check.host, check.name, check.outcome) for check in [*failed, *skipped]),
                (22, 62, 16),
                title="What did not pass",
            )
        )
    files = {"proofs/proof.xml": run.junit.read_bytes()}
    page = run.path / "proof.html"
    if page.is_file():
        files["proofs/proof.html"] = page.read_bytes()
    return Section(
        "proofs",
        "Last proof",
        articles,
        tuple(blocks),
        {"run": run.as_dict(), **{key: count[key] for key in ("passed", "failed", "skipped")}},
        tuple(gaps),
        files,
    )


def gpus(known: Known) -> Section:
    """Section: which GPUs compute, by the stack, by the node and by the last proof."""
    planned = [
        {
            "host": host.name,
            "node": host.node,
            "gpu": gpu.key,
            "card": gpu.card,
            "share": gpu.share,
        }
        for host in known.layout.hosts
        for gpu in host.gpus
    ]
    truth = [check for check in (latest(known) or (None, []))[1] if _GPU in check.about.replace("_", " ")]
    blocks: list[Block] = [
        Grid(
            ("Host", "Node", "GPU", "Card", "Share"),
            tuple(
                (
                    str(each["host"]),
                    str(each["node"]),
                    str(each["gpu"]),
                    str(each["card"] or "not named"),
                    f"{each['share']:.0%}",
                )
                for each in planned
            ),
            (22, 14, 30, 22, 12),
            empty="The stack gives no GPU to any host: language models are computed without one.",
        )
    ]
    if truth:
        blocks.append(
            Grid(
                ("Host", "Check", "Result"),
                tuple((check.host, check.name, check.outcome) for check in truth),
                (22, 62, 16),
                title="What the last proof found (GPU truth)",
            )
        )
    gaps = []
    if planned and not truth:
        gaps.append(
            Gap(
                "No proof is kept that language models are computed on the GPUs of the stack.",
                (law.PRINCIPLES,),
                f"`freehold verify {known.name}`",
            )
        )
    if known.live.gpus is not None:
        blocks.append(
            Grid(
                ("Node", "GPU", "Card", "Driver", "Hosts"),
                tuple(
                    (
                        str(gpu["node"]),
                        str(gpu["pci"]),
                        str(gpu.get("card") or gpu.get("name") or ""),
                        " ".join(str(gpu[key]) for key in ("driver", "driver_version") if gpu.get(key)),
                        listed(gpu["hosts"]) or ("none" if gpu["listed"] else "not in the stack"),
                    )
                    for gpu in known.live.gpus
                ),
                (14, 22, 24, 20, 20),
                title="What the nodes have now",
                empty="No node has a GPU.",
            )
        )
    if known.live.complaints:
        blocks.append(Text(f"The driver's tools complained: {listed(known.live.complaints)}"))
    return Section(
        "gpus",
        "Where language models are computed",
        (law.PRINCIPLES, law.SECURITY),
        tuple(blocks),
        {
            "planned": planned,
            "now": list(known.live.gpus) if known.live.gpus is not None else None,
            "truth": [{"host": c.host, "check": c.name, "outcome": c.outcome} for c in truth],
        },
        tuple(gaps),
    )


def incidents(known: Known) -> Section:
    """Section: alerts and known faults, and what is not collected of them."""
    told = [str(mail) for mail in known.setting("alertmanager", "mail_to") or ()]
    if known.setting("alertmanager", "webhook_url"):
        told.append("a webhook")  # its address may be as good as a password
    alerts = [
        {
            "name": alert.name,
            "service": service.title,
            "severity": alert.severity,
            "summary": alert.summary,
        }
        for service in known.layout.services
        for alert in known.catalog[service.role].alerts
    ]
    failed = [run for run in known.runs if run.ended == "failed"]
    gaps = [
        Gap(
            "Incidents are not collected: neither alerts that fired in the past nor what was done about them.",
            (law.DEPLOYERS, law.SECURITY),
            "the client's own register of incidents, and the mails of the alerts",
        )
    ]
    if not told:
        gaps.append(
            Gap(
                "Alerts reach nobody outside the stack.",
                (law.SECURITY, law.DEPLOYERS),
                "`services.alertmanager.mail_to` in the stack file",
            )
        )
    if known.live.drift:
        gaps.append(
            Gap(
                f"Containers that differ from the stack: {len(known.live.drift)}.",
                (law.SECURITY,),
                f"`freehold plan {known.name}` shows it, `freehold up {known.name}` brings it back",
            )
        )
    blocks: list[Block] = [
        Facts(
            (
                ("Alerts that are watched for", str(len(alerts))),
                ("Who hears of them", listed(told) or "nobody"),
                (
                    "Containers that differ from the stack",
                    "not asked"
                    if known.live.drift is None
                    else listed(known.live.drift) or "none: they are as the stack wants them",
                ),
            )
        ),
        Grid(
            ("Run", "Command", "What failed"),
            tuple((f"{run.began:%Y-%m-%d %H:%M}", run.verb, run.error) for run in failed[:20]),
            (20, 14, 66),
            title="Runs of Freehold that failed",
            empty="None of those that are kept.",
        ),
    ]
    return Section(
        "incidents",
        "Alerts and known faults",
        (law.DEPLOYERS, law.SECURITY),
        tuple(blocks),
        {
            "alerts": alerts,
            "told": told or None,
            "drift": list(known.live.drift) if known.live.drift is not None else None,
            "failed_runs": [run.as_dict() for run in failed],
        },
        tuple(gaps),
    )
