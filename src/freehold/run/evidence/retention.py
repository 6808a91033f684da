"""Section: what is recorded, how long it is kept, and what is saved."""

from __future__ import annotations

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Facts, Gap, Grid, Section, Text
from freehold.run.evidence.known import Known

_HIGH_RISK_MONTHS = 6
"""Months for which AI Act Art. 26(6) has deployers of high-risk systems keep their records, at least."""


def kept(known: Known) -> list[dict[str, str]]:
    """What is kept where, for how long."""
    rows: list[dict[str, str]] = []
    months = f"{known.stack.audit.retention_months} months"

    def add(role: str, what: str, long: str, key: str) -> None:
        if known.has(role):
            rows.append({"service": role, "what": what, "kept": long, "set_by": key})

    def days(role: str, option: str, more: str = "days") -> str:
        value = known.setting(role, option)
        return f"{value} {more}" if value else "for ever" if value == 0 else "not known"

    add(
        "langfuse",
        "questions and answers, with user and time (traces)",
        months,
        "audit.retention_months",
    )
    add(
        "langfuse",
        "uploads of traces as they came in",
        "30 days at most",
        "audit.retention_months",
    )
    add("openwebui", "chats, documents and accounts", "until the person or an administrator deletes them", "")
    add(
        "openwebui",
        "who uploaded, changed or removed what, and logins (no contents)",
        days("openwebui", "audit_days"),
        "services.openwebui.audit_days",
    )
    add("qdrant", "vectors of documents", "as long as the documents", "")
    add("n8n", "executions of workflows", days("n8n", "executions_days"), "services.n8n.executions_days")
    add(
        "egress",
        "which host asked for which name outside",
        days("egress", "log_days"),
        "services.egress.log_days",
    )
    add(
        "litellm",
        "records that wait for the traces",
        f"until they are there, {known.stack.audit.spool_mib} MiB at most",
        "audit.spool_mib",
    )
    if known.has("langfuse"):
        add(
            "litellm",
            "ledger of calls: number, time, application",
            months,
            "audit.retention_months",
        )
    if known.layout.routing:
        add(
            "valkey",
            "which conversations stay in the building (as keyed hashes)",
            f"{months} after the last question",
            "audit.retention_months",
        )
        add("valkey", "requests and tokens of each person (under keyed hashes)", "3 days at most", "")
    add(
        "caddy",
        "who called which address (no contents)",
        days("caddy", "log_days"),
        "services.caddy.log_days",
    )
    add(
        "prometheus",
        "figures of operation (no persons)",
        days("prometheus", "retention_days"),
        "services.prometheus.retention_days",
    )
    add(
        "clickhouse",
        "its own record of queries",
        days("clickhouse", "query_log_days"),
        "services.clickhouse.query_log_days",
    )
    rows.append(
        {"service": "all hosts", "what": "system logs", "kept": "3 months, 256 MiB at most", "set_by": ""}
    )
    add(
        "postgres",
        "nightly copies of databases",
        days("postgres", "dump_keep", "copies"),
        "services.postgres.dump_keep",
    )
    add(
        "clickhouse",
        "nightly copies of traces",
        days("clickhouse", "backup_keep", "copies"),
        "services.clickhouse.backup_keep",
    )
    add(
        "qdrant",
        "nightly copies of vectors",
        days("qdrant", "snapshot_keep", "copies"),
        "services.qdrant.snapshot_keep",
    )
    return rows


def section(known: Known) -> Section:
    """The section."""
    rows, audit = kept(known), known.stack.audit
    saved = [
        {"service": service.title, "path": data.path, "saved": data.backup}
        for service in known.layout.services
        for data in known.catalog[service.role].data
    ]
    return Section(
        "retention",
        "Records, retention and backups",
        (law.RECORDS, law.DEPLOYERS, law.PRINCIPLES, law.SECURITY),
        (
            Facts(
                (
                    (
                        "Recorded of each request to a language model",
                        "person, conversation, language model, question, answer, time, tokens and decision of the router"
                        if known.has("langfuse")
                        else "nothing: the stack has no langfuse",
                    ),
                    (
                        "When nothing can be recorded",
                        "the router answers no more"
                        if audit.when_full == "stop"
                        else "the router answers unrecorded",
                    ),
                    (
                        "Found values are blacked out before they are recorded",
                        "yes" if audit.mask else "no",
                    ),
                    ("Whether it is whole", _whole(known)),
                    (
                        "Erasing a person",
                        f"`freehold audit erase {known.name} --user <mail>` for the record; chats in the chat",
                    ),
                )
            ),
            Grid(
                ("What", "Where", "Kept", "Set by"),
                tuple((row["what"], row["service"], row["kept"], row["set_by"] or "fixed") for row in rows),
                (34, 12, 22, 32),
                title="How long it is kept",
            ),
            Grid(
                ("Service", "Directory", "Saved"),
                tuple(
                    (each["service"], each["path"], _SAVED.get(each["saved"], each["saved"]))
                    for each in saved
                ),
                (22, 38, 40),
                title="What is saved",
            ),
            Text(
                "Volumes are marked for the node's own backup jobs. Whether such jobs exist, where their copies go and whether a "
                "copy was ever restored is not collected."
            ),
        ),
        {"whole": known.live.record, "kept": rows, "audit": audit.model_dump(mode="json"), "saved": saved},
        tuple(_gaps(known)),
    )


_SAVED = {
    "files": "as files, with the container",
    "dump": "as a nightly copy of the database, with the container",
    "none": "not saved",
}


def _whole(known: Known) -> str:
    found = known.live.record
    if found is None:
        return "not asked" if known.has("langfuse") else "there is no record"
    return (
        f"of {found['calls']} calls of the router since {found['since'][:10]}, {found['traces']} are in the record, "
        f"{found['waiting'] + found['aside']} wait for it, {found['erased']} were erased and {len(found['missing'])} are missing"
    )


def _gaps(known: Known) -> list[Gap]:
    gaps = [
        Gap(
            "Backups of the node's jobs, and a restore that was tried, are not collected.",
            (law.SECURITY,),
            "the node's own jobs (Datacenter > Backup in Proxmox VE), and the client's record of a restore",
        )
    ]
    if not known.has("langfuse"):
        gaps.append(
            Gap(
                "Requests to language models are not recorded.",
                (law.RECORDS, law.DEPLOYERS),
                "`services.langfuse` in the stack file",
            )
        )
        return gaps
    if known.live.record and known.live.record["missing"]:
        gaps.append(
            Gap(
                f"Calls that are missing in the record of requests: {len(known.live.record['missing'])}.",
                (law.RECORDS, law.DEPLOYERS),
                f"`freehold audit check {known.name}` names them",
            )
        )
    months = known.stack.audit.retention_months
    if months < _HIGH_RISK_MONTHS and known.stack.governance.risk_class == "high":
        gaps.append(
            Gap(
                f"The record of requests is kept for {months} months; a high-risk use wants six at least.",
                (law.DEPLOYERS,),
                "`audit.retention_months` in the stack file",
            )
        )
    if known.stack.audit.when_full == "pass":
        gaps.append(
            Gap(
                "While the record takes nothing, requests are answered unrecorded.",
                (law.RECORDS,),
                "`audit.when_full: stop` in the stack file",
            )
        )
    return gaps
