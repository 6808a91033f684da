"""The reference page of services, written from ``roles/*/meta/service.yml`` and the lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from freehold.catalog.services import ServiceMeta
from freehold.catalog.versions import Artifact

_HEAD = """# Services

What a stack can have. A service is a role (`roles/<name>/`) on a host of its own; what it needs comes along, and what it
merely wants is wired to it where it is present. Routes, firewall, databases, buckets, scrape targets and alerts are all
computed from these descriptions. Settings: [stack.md](stack.md).

This page is written by `python -m freehold.layout`; edit `roles/*/meta/service.yml` or `versions.yml` instead.
"""


def page(services: Mapping[str, ServiceMeta], lock: Mapping[str, Artifact]) -> str:
    """The reference page in Markdown."""
    rows = [
        (
            f"[{meta.name}](#{meta.name})",
            meta.title,
            ", ".join(dict.fromkeys(lock[name].version for name in meta.artifacts)),
            f"{meta.resources.cores} cores, {meta.resources.memory} MiB, {meta.resources.disk} GiB",
            ", ".join(meta.needs),
            ", ".join(meta.wants),
        )
        for meta in services.values()
    ]
    parts = [_HEAD, _table(("service", "what it is", "version", "default size", "needs", "wants"), rows)]
    for meta in services.values():
        parts += [f"## {meta.name}\n", _artifacts(meta, lock)]
        if meta.ports:
            ports = [
                (name, f"{port.port}/{port.protocol}", _who(meta, name)) for name, port in meta.ports.items()
            ]
            parts.append(_table(("port", "number", "who is let in"), ports))
        if facts := _facts(meta):
            parts.append("\n".join(f"- {fact}" for fact in facts) + "\n")
        if meta.alerts:
            alerts = [(alert.name, alert.severity, alert.summary, alert.action) for alert in meta.alerts]
            parts.append(_table(("alert", "severity", "what is wrong", "what to do"), alerts))
    return "\n".join(parts)


def _artifacts(meta: ServiceMeta, lock: Mapping[str, Artifact]) -> str:
    lines = []
    for name in meta.artifacts:
        entry = lock[name]
        what = entry.package or entry.image or entry.url or ", ".join(entry.packages)
        lines.append(f"[{name}]({entry.upstream}) {entry.version}: `{what}`, {entry.licence}.")
    return f"{meta.os}. {' '.join(lines)}\n"


def _who(meta: ServiceMeta, name: str) -> str:
    sources = [*meta.ports[name].sources]
    if any(metrics.port == name for metrics in meta.metrics):
        sources.append("prometheus")
    return ", ".join(dict.fromkeys(sources)) or "nobody"


def _facts(meta: ServiceMeta) -> Iterable[str]:
    if meta.routes:
        yield "at the gateway: " + ", ".join(
            f"{route.title} at `{route.host}.<domain>`" for route in meta.routes
        )
    if meta.databases:
        yield "databases: " + ", ".join(f"`{each.name}` in {each.server}" for each in meta.databases)
    if meta.buckets:
        yield "buckets: " + ", ".join(f"`{each.name}` in {each.server}" for each in meta.buckets)
    if meta.secrets:
        yield "secrets: " + ", ".join(f"`{meta.name}.{secret}`" for secret in meta.secrets)
    if meta.data:
        yield "data: " + ", ".join(
            f"`{data.path}`{f' (volume of {data.size} GiB)' if data.size else ''}" for data in meta.data
        )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped) + "\n"
