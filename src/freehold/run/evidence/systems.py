"""Section: hosts and services, their versions, who may reach them, and what can leave."""

from __future__ import annotations

from typing import Any

from freehold.catalog import licences
from freehold.layout.network import PRIVATE
from freehold.layout.types import Host, ServicePlacement
from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Gap, Grid, Section, Text
from freehold.run.evidence.known import Known
from freehold.run.evidence.tables import as_csv, listed

PURPOSES = {
    "alertmanager": "sends alerts to those who act on them",
    "caddy": "the one door: TLS and host names of the applications",
    "clickhouse": "database of the record of requests",
    "egress": "the one way out: a list of names that hosts may reach",
    "grafana": "pictures of the figures of operation",
    "langfuse": "record of requests to language models, with question and answer",
    "litellm": "router: every request to a language model goes through it",
    "n8n": "workflows that run by themselves",
    "ollama": "computes language models",
    "openwebui": "chat with language models, also about documents",
    "postgres": "database of the applications",
    "prometheus": "collects figures of operation",
    "qdrant": "makes documents searchable (vectors)",
    "seaweedfs": "files of the record of requests",
    "sglang": "computes language models",
    "valkey": "short-lived memory of applications",
    "vllm": "computes language models",
    "weights": "keeps the files of language models, checked by their checksums",
}
"""What services are for, in a few words."""
_SERVICE = (
    "name",
    "title",
    "purpose",
    "version",
    "licence",
    "source",
    "pinned_by",
    "host",
    "address",
    "stand_in",
)
_LICENCE = ("name", "title", "spdx", "url", "sha256_of_text", "read", "used_by")


def section(known: Known) -> Section:
    """The section."""
    services = [_service(known, service) for service in known.layout.services]
    stand_ins = [each for each in services if each["stand_in"]]
    gaps = []
    if stand_ins:
        gaps.append(
            Gap(
                f"Stand-ins of the lab, not the programs themselves: {listed([each['name'] for each in stand_ins])}.",
                (law.SECURITY,),
                "the programs themselves: remove `versions.yml` of the client's folder",
            )
        )
    states = {host["host"]: host for host in known.live.hosts or ()}
    used = _licences(known)
    return Section(
        "systems",
        "Systems and their purpose",
        (law.REGISTER, law.SECURITY),
        (
            Text(
                "Each service runs in a container of its own on the client's Proxmox VE"
                + (f" {known.live.version}" if known.live.version else "")
                + f", in the client's network {known.stack.network.subnet}."
            ),
            Grid(
                ("Service", "Purpose", "Version", "Licence", "Host"),
                tuple(
                    (
                        each["title"],
                        each["purpose"],
                        each["version"] + (" (stand-in)" if each["stand_in"] else ""),
                        each["licence"],
                        f"{each['host']} {each['address']}",
                    )
                    for each in services
                ),
                (16, 30, 16, 18, 20),
            ),
            Grid(
                ("Host", "Container", "Node", "System", "Memory", "State"),
                tuple(_host_row(host, states.get(host.name)) for host in known.layout.hosts),
                (18, 12, 14, 16, 16, 24),
                title="Hosts",
            ),
            Grid(
                ("Address", "Application", "What people do there"),
                tuple(
                    (f"https://{route.fqdn}", route.title, route.description) for route in known.layout.routes
                ),
                (40, 20, 40),
                title="Applications for people",
            ),
        ),
        {
            "services": services,
            "hosts": [
                {
                    "name": host.name,
                    "vmid": host.vmid,
                    "node": host.node,
                    "address": str(host.address),
                    "system": host.os,
                    "cores": host.cores,
                    "memory_mib": host.memory,
                    "services": list(host.services),
                    "state": states.get(host.name, {}).get("state"),
                }
                for host in known.layout.hosts
            ],
            "applications": [
                {"address": f"https://{route.fqdn}", "service": route.service, "title": route.title}
                for route in known.layout.routes
            ],
            "licences": used,
        },
        tuple(gaps),
        {
            "services.csv": as_csv(_SERVICE, [[each[key] for key in _SERVICE] for each in services]),
            "licences.csv": as_csv(_LICENCE, [[each[key] for key in _LICENCE] for each in used]),
        },
    )


def _service(known: Known, service: ServicePlacement) -> dict[str, Any]:
    installed = known.artifacts(service)
    first = installed[0] if installed else None
    return {
        "name": service.name,
        "title": service.title,
        "purpose": PURPOSES.get(service.role, "not described"),
        "version": first.version if first else "part of Freehold",
        "licence": listed(list(dict.fromkeys(each.licence for each in installed))) or "Apache-2.0",
        "source": first.upstream if first else "",
        "pinned_by": listed(
            [
                each.sha256 or each.digest or each.lock or f"Debian {each.suite or ''}".strip()
                for each in installed
            ]
        ),
        "host": service.host,
        "address": str(service.address),
        "stand_in": any(each.stand_in for each in installed),
    }


def _host_row(host: Host, state: dict[str, Any] | None) -> tuple[str, ...]:
    return (
        host.name,
        str(host.vmid),
        host.node,
        host.os,
        f"{host.memory} MiB",
        (f"{state['state']}, {state['memory']}".strip(", ") if state else "not asked"),
    )


def _licences(known: Known) -> list[dict[str, Any]]:
    """Licences of services and language models, with the checksum of the text that was read."""
    users: dict[str, list[str]] = {}
    for service in known.layout.services:
        for artifact in known.artifacts(service):
            users.setdefault(artifact.licence, []).append(service.title)
    for model in known.layout.models:
        users.setdefault(model.licence or "unknown", []).append(model.title)
    texts = licences.load()
    return [
        {
            "name": name,
            "title": text.title if text else "not in the catalogue",
            "spdx": text.spdx if text else None,
            "url": text.url if text else None,
            "sha256_of_text": text.text_sha256 if text else None,
            "read": " ".join(text.source.split()) if text else None,
            "used_by": listed(list(dict.fromkeys(by))),
        }
        for name, by in sorted(users.items())
        for text in [texts.get(name)]
    ]


def reach(known: Known) -> Section:
    """Section: who may reach what; each host drops everything else."""
    names = {str(host.address): host.name for host in known.layout.hosts}
    rows = [
        {
            "host": host.name,
            "port": f"{rule.port}-{rule.last}" if rule.last else str(rule.port),
            "protocol": rule.protocol,
            "from": [_source(str(source), names) for source in rule.sources],
            "why": rule.comment,
        }
        for host in known.layout.hosts
        for rule in host.rules
    ]
    outside = next(
        (str(host["firewall"]) for host in known.live.hosts or () if host.get("firewall")),
        None,
    )
    gaps = (
        ()
        if outside is None or outside.startswith("in force")
        else (
            Gap(
                f"Proxmox VE's own firewall around the containers: {outside}.",
                (law.SECURITY,),
                "the node's administrator: docs/firewall.md (nftables inside the containers filters all the same)",
            ),
        )
    )
    people = {str(network) for network in known.stack.network.users or PRIVATE}
    open_to_people = [row for row in rows if people <= set(row["from"])]
    return Section(
        "reach",
        "Who may reach what",
        (law.SECURITY, law.BY_DESIGN),
        (
            Text(
                "Every container has a firewall of its own (nftables), which drops what is not listed here. "
                f"People reach {listed(sorted({str(row['host']) for row in open_to_people})) or 'nothing'} alone."
            ),
            Grid(
                ("Host", "Port", "From", "Why"),
                tuple(
                    (
                        str(row["host"]),
                        f"{row['port']}/{row['protocol']}",
                        listed(row["from"]),
                        str(row["why"]),
                    )
                    for row in rows
                    # The same for all hosts: it would bury the others.
                    if row["port"] not in {"22", "9100"}
                ),
                (16, 12, 42, 30),
            ),
            Text(f"Proxmox VE's own firewall around the containers: {outside or 'not asked'}."),
            Text(
                f"Administrators reach SSH (port 22) of every host from {listed(known.layout.admins)}"
                + (
                    f"; the monitoring at {known.layout.monitor} reads figures of every host (port 9100)."
                    if known.layout.monitor
                    else "."
                )
            ),
        ),
        {"rules": rows, "proxmox_firewall": outside},
        gaps,
    )


def _source(network: str, names: dict[str, str]) -> str:
    return names.get(network.removesuffix("/32"), network)
