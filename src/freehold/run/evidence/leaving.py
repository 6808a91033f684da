"""Sections: what can leave the building, and what may go to a cloud provider, with the tests of it."""

from __future__ import annotations

from typing import Any

from freehold.layout.licence_gate import EU
from freehold.layout.routing import RoutingPolicy
from freehold.routing import providers
from freehold.run import route
from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Block, Facts, Gap, Grid, Section, Text
from freehold.run.evidence.known import Known
from freehold.run.evidence.tables import as_json, listed
from freehold.run.route import CASES
from freehold.schema.stack import Provider

MAKERS = {
    "anthropic": ("Anthropic PBC", "US"),
    "openai": ("OpenAI", "US"),
    "mistral": ("Mistral AI SAS", "FR"),
    "perplexity": ("Perplexity AI, Inc.", "US"),
    "azure": ("Microsoft Corporation", "US"),
}
"""Who offers each kind of provider, and where it has its seat (ISO 3166-1 alpha-2), by its own imprint."""
EEA = EU | {"EU", "IS", "LI", "NO"}
"""European Economic Area."""
_REGISTRIES = {
    "debian": "Debian's archive",
    "python": "the index of Python packages",
    "npm": "npm's registry",
}
_ANYWHERE = {"0.0.0.0/0": "anywhere"}
_POLICY = ("routing", "policy", "sensitive", "cloud", "leave")
"""Words in the names of checks of the router that are about the policy."""


def cloud_providers(known: Known) -> list[dict[str, Any]]:
    """The cloud providers of the stack."""
    found = []
    for name, given in known.stack.routing.providers.items():
        provider = given or Provider()
        kind = provider.kind or name
        company, seat = MAKERS.get(kind, (None, None))
        host, port = providers.destination(kind, provider.endpoint)
        found.append(
            {
                "name": name,
                "kind": kind,
                "company": company,
                "seat": seat,
                "host": host,
                "port": port,
                "region": provider.region,
                "agreement": provider.agreement,
                "language_models": [
                    model.model for model in known.stack.routing.cloud.values() if model.provider == name
                ],
            }
        )
    return found


def outside(known: Known) -> list[dict[str, str]]:
    """What hosts may reach outside, each with why."""
    rows = []
    for host in known.setting("egress", "hosts") or ():
        ways = [
            f"{way['name']}:{way['port']}" + ("" if way["tls"] else " (without TLS)") for way in host["ways"]
        ]
        packages = [_REGISTRIES.get(client, client) for client in host["clients"]]
        rows.append(
            {
                "from": str(host["name"]),
                "to": listed([*packages, *ways]) or "nothing",
                "why": "through the host egress",
            }
        )
    own = {str(host.address) for host in known.layout.hosts}
    for host in known.layout.hosts:
        for rule in host.outgoing or ():
            away = [str(net) for net in rule.destinations if str(net).removesuffix("/32") not in own]
            if away:
                ports = f"{rule.port}-{rule.last}" if rule.last else str(rule.port)
                rows.append(
                    {
                        "from": host.name,
                        "to": f"{_ANYWHERE.get(listed(away), listed(away))}, port {ports}/{rule.protocol}",
                        "why": rule.comment
                        + (f" (user {', '.join(rule.users)} alone)" if rule.users else ""),
                    }
                )
    return rows


def section(known: Known) -> Section:
    """Section: what can leave."""
    cloud = cloud_providers(known)
    closed = known.layout.egress is not None
    rows = outside(known)
    blocks: list[Block] = [
        Text(
            "No host reaches the internet but through the host egress, which knows a list of names and records what goes "
            "through it; every other way is refused by each host's own firewall."
            if closed
            else "Hosts may reach the internet: their firewall says who may come in, not where they may go."
        )
    ]
    if closed:
        blocks.append(
            Grid(
                ("From", "To", "Why"),
                tuple((row["from"], row["to"], row["why"]) for row in rows),
                (14, 60, 26),
                title="What may be reached outside",
                empty="Nothing.",
            )
        )
    smtp = known.setting("alertmanager", "smtp_server")
    if smtp:
        blocks.append(
            Text(
                f"Alerts leave by mail over {smtp} to {listed(known.setting('alertmanager', 'mail_to') or [])}. They hold names "
                "of hosts and services, and figures; nothing of conversations."
            )
        )
    if cloud:
        blocks.append(
            Grid(
                ("Provider", "Company", "Address", "Computes in", "Agreement"),
                tuple(
                    (
                        each["name"],
                        f"{each['company'] or 'not known'}, {each['seat'] or 'country not known'}",
                        f"{each['host']}:{each['port']}",
                        each["region"] or "not stated",
                        each["agreement"] or "not stated",
                    )
                    for each in cloud
                ),
                (14, 24, 26, 12, 24),
                title="Cloud providers of language models",
            )
        )
    else:
        blocks.append(
            Text("There is no cloud provider of language models: no question and no document leaves.")
        )
    return Section(
        "leaving",
        "What can leave",
        (law.BY_DESIGN, law.SECURITY, law.PROCESSORS, law.TRANSFERS),
        tuple(blocks),
        {
            "closed": closed,
            "outside": rows,
            "providers": cloud,
            "alerts_by_mail": smtp or None,
        },
        tuple(_gaps(cloud, closed=closed)),
    )


def _gaps(cloud: list[dict[str, Any]], *, closed: bool) -> list[Gap]:
    gaps = []
    if not closed:
        gaps.append(
            Gap(
                "Hosts may reach the internet directly.",
                (law.SECURITY, law.BY_DESIGN),
                "`egress.closed: true` in the stack file",
            )
        )
    for each in cloud:
        key = f"routing.providers.{each['name']}"
        if not each["agreement"]:
            gaps.append(
                Gap(
                    f"No agreement with the provider {each['name']} is stated.",
                    (law.PROCESSORS,),
                    f"`{key}.agreement` in the stack file",
                )
            )
        if not each["region"]:
            gaps.append(
                Gap(
                    f"Where {each['name']} computes is not stated.",
                    (law.TRANSFERS,),
                    f"`{key}.region` in the stack file, by the client's contract",
                )
            )
        elif not {each["region"], each["seat"] or "EU"} <= EEA:
            gaps.append(
                Gap(
                    f"{each['name']} computes, or has its seat, outside the European Economic Area: what allows the transfer "
                    "(adequacy decision, standard contractual clauses) is not collected.",
                    (law.TRANSFERS,),
                    "the client's own records of the contract",
                )
            )
    return gaps


def _presidio(policy: RoutingPolicy | None) -> str:
    if not policy or not policy.presidio:
        return "off: names that are on no list are not found"
    return (
        f"keeps what it takes for a name ({listed(policy.presidio['finds'])}) in the building, in"
        f" {listed(policy.presidio['languages'])}; it runs beside the router and reaches no network"
    )


def routing(known: Known) -> Section:
    """Section: what may go to a cloud provider, and the tests of that policy."""
    stated, policy = known.stack.routing, known.layout.routing
    if not stated.cloud:
        return Section(
            "routing",
            "What may go to a cloud provider",
            (law.BY_DESIGN, law.PROCESSORS),
            (
                Text(
                    "No cloud provider: nothing can leave. Every request is answered by the client's own engines."
                ),
            ),
            {"cloud": False},
            files={"routing-policy.json": as_json(policy.file() if policy else {"cloud": {}})},
        )
    cases, gaps = _cases(known)
    ignored = listed(stated.sensitive.ignore)
    facts = (
        ("Local is the default", "a cloud language model answers only where all of this allows it"),
        (
            "Sensitive is",
            f"what detectors of {listed(stated.sensitive.countries) or 'all built-in countries'} find"
            + (", and names in the client's own list" if stated.sensitive.names else ""),
        ),
        ("Presidio", _presidio(policy)),
        ("Does not count as sensitive", ignored or "nothing is left out"),
        ("Never leaves", listed(stated.never_leaves) or "nothing by its kind"),
        (
            "Once sensitive",
            "a conversation stays local for its whole life",
        ),
        ("When in doubt", "a detector that fails, an unknown kind of content, an unknown user: local"),
        ("When the local engine is down", "an error; there is no way from local to cloud"),
        ("People see who answered", "yes" if stated.notice else "only in the details of an answer"),
    )
    return Section(
        "routing",
        "What may go to a cloud provider",
        (law.BY_DESIGN, law.PRINCIPLES, law.PROCESSORS, law.TRANSPARENCY),
        (
            Facts(facts),
            Grid(
                ("Name", "Cloud language model", "Groups that may use it", "Else answers"),
                tuple(
                    (
                        name,
                        f"{model.model} of {model.provider}",
                        listed(model.groups) or "nobody",
                        model.local or (policy.local if policy else "") or "the first local one",
                    )
                    for name, model in stated.cloud.items()
                ),
                (18, 36, 26, 20),
                title="Cloud language models",
            ),
            *cases,
        ),
        {"cloud": True, "policy": stated.model_dump(mode="json")},
        gaps,
        {"routing-policy.json": as_json(policy.file() if policy else stated.model_dump(mode="json"))},
    )


def _cases(known: Known) -> tuple[tuple[Block, ...], tuple[Gap, ...]]:
    """The client's own cases, and what the last proof found of the policy."""
    checks = [
        check
        for check in next((run.checks for run in known.runs if run.checks), [])
        if check.about == "litellm" and any(word in check.name for word in _POLICY)
    ]
    blocks: list[Block] = []
    gaps = []
    results = route.run_cases(known.client)
    if results:
        blocks.append(
            Grid(
                ("Case", "Must go", "Goes", "Why", "Result"),
                tuple(
                    (
                        each.case.name,
                        each.case.expect,
                        str(each.told["route"]),
                        each.difference or str(each.told.get("unread") or each.told["words"]),
                        "failed" if each.difference else "see proof" if each.told.get("unread") else "passed",
                    )
                    for each in results
                ),
                (32, 10, 10, 36, 12),
                title=f"The client's own cases ({CASES}), decided now by the code that the router runs",
            )
        )
    else:
        gaps.append(
            Gap(
                "The client has no test cases of its own for the routing policy.",
                (law.BY_DESIGN,),
                f'`{CASES}` in the client\'s folder; `freehold route explain {known.name} "text"` shows what would happen',
            )
        )
    if failed := [each for each in results if each.difference]:
        gaps.append(
            Gap(
                f"Cases of the routing policy that go elsewhere than they must: {len(failed)}.",
                (law.BY_DESIGN, law.PRINCIPLES),
                f"`freehold route cases {known.name}` shows them; correct the policy or the case",
            )
        )
    if checks:
        blocks.append(
            Grid(
                ("Check", "Host", "Result"),
                tuple((check.name, check.host, check.outcome) for check in checks),
                (60, 22, 18),
                title="What the last proof found at the router itself",
            )
        )
    else:
        gaps.append(
            Gap(
                "The routing policy was not tested at the router by a proof that is kept.",
                (law.BY_DESIGN, law.SECURITY),
                f"`freehold verify {known.name}`",
            )
        )
    return tuple(blocks), tuple(gaps)
