"""The firewall of a container that Proxmox VE keeps outside of it: its options and rules, compared and written.

Rules that bear Freehold's mark in their comment are Freehold's. All others are an administrator's: they stay as they
are and where they are, and new rules of Freehold go below them. Nothing here switches the datacenter's firewall on.

Sources: ``/nodes/{node}/lxc/{vmid}/firewall/options`` and ``.../rules`` of the API schema; a new rule comes first, and
the digest is compared when a rule is changed, moved or removed, not when one is made (``PVE::API2::Firewall::Rules``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, NamedTuple

from freehold.proxmox import propstrings
from freehold.proxmox.changes import ApiCall, FieldDiff
from freehold.proxmox.observe import ObservedFirewall
from freehold.proxmox.spec import Firewall, FirewallRule

MARK = "freehold: "
"""How the comment of each rule of Freehold's begins."""
LONGEST = 512
"""Characters that ``source`` and ``dest`` of a rule may have (schema of the API)."""

EVERYBODY = "0.0.0.0/0"
"""What a rule does not name that is for every address."""

_LAST = 9999
"""A position behind all others: a rule that is moved there becomes the last one."""
_FLAGS = frozenset({"enable", "macfilter", "ipfilter"})
_SHOWN = ("macro", "proto", "icmp-type", "dport")

Rule = dict[str, str]


class Place(NamedTuple):
    """Where a rule stands, and the digest that it was seen with."""

    position: int
    digest: str


@dataclass
class Difference:
    """In what a container's firewall differs from the wanted one."""

    options: dict[str, str] = field(default_factory=dict)
    removed: list[Rule] = field(default_factory=list)
    changed: list[tuple[Rule, Rule]] = field(default_factory=list)
    """Rules as they are and as they should be."""
    added: list[Rule] = field(default_factory=list)
    foreign: list[Rule] = field(default_factory=list)
    """Rules of an administrator."""
    diffs: list[FieldDiff] = field(default_factory=list)


def options(wanted: Firewall) -> dict[str, str]:
    """The options that Freehold keeps, defaults included, for people to read; all others are left as they are.

    ``ipfilter`` holds the container to its configured address, ``macfilter`` to the MAC address of its interface.
    """
    return {
        "enable": "1",
        "policy_in": "DROP",
        "policy_out": wanted.policy_out,
        "ipfilter": "1",
        "macfilter": "1",
    }


def rules(wanted: Firewall) -> list[Rule]:
    """The rules in the terms of the API; one with more peers than a rule may name becomes several."""
    return [rule for each in wanted.rules for rule in _of(each)]


def _of(rule: FirewallRule) -> Iterator[Rule]:
    side = "source" if rule.direction == "in" else "dest"
    for number, peers in enumerate(_chunks(rule.peers), start=1):
        made = {"type": rule.direction, "action": "ACCEPT", "enable": "1", "proto": rule.protocol}
        if rule.ports:
            made["dport"] = rule.ports
        if peers:
            made[side] = peers
        yield {**made, "comment": f"{MARK}{rule.comment}" + (f" ({number})" if number > 1 else "")}


def _chunks(peers: Sequence[str]) -> list[str]:
    if EVERYBODY in peers:
        return [""]
    chunks: list[str] = []
    for peer in peers:
        address = _address(peer)
        if chunks and len(chunks[-1]) + 1 + len(address) <= LONGEST:
            chunks[-1] += f",{address}"
        else:
            chunks.append(address)
    return chunks or [""]


def _address(text: str) -> str:
    """A network as people write it: a single address without its prefix; aliases, sets and ranges as they are."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return text
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def canonical(rule: Mapping[str, Any]) -> Rule:
    """A rule without what says nothing, its addresses sorted, so that equal rules are the same."""
    kept = {
        key: str(value)
        for key, value in rule.items()
        if key not in {"pos", "digest", "ipversion"} and value not in (None, "")
    }
    for side in ("source", "dest"):
        if side in kept:
            kept[side] = ",".join(sorted(map(_address, kept[side].replace(" ", "").split(","))))
    kept["enable"] = str(int(propstrings.truth(kept.get("enable", "0"))))
    if kept.get("log") == "nolog":
        del kept["log"]
    return kept


def is_ours(rule: Mapping[str, Any]) -> bool:
    """Whether a rule bears Freehold's mark."""
    return str(rule.get("comment", "")).startswith(MARK.rstrip())


def text(rule: Mapping[str, Any]) -> str:
    """A rule as one line for people; different rules have different lines."""
    plain = canonical(rule)
    words = [plain.pop("type", "?"), plain.pop("action", "?")]
    words += [plain.pop(key) for key in _SHOWN if key in plain]
    words += [
        f"{word} {plain.pop(key)}" for key, word in (("source", "from"), ("dest", "to")) if key in plain
    ]
    comment = plain.pop("comment", "")
    off = plain.pop("enable") == "0"
    words += [f"{key} {value}" for key, value in sorted(plain.items())]
    return " ".join(words) + (f" ({comment})" if comment else "") + (" [off]" if off else "")


def place(listed: Iterable[Mapping[str, Any]], wanted: str) -> Place | None:
    """Where the rule of that `text` stands among the rules that the API listed."""
    for rule in listed:
        if text(rule) == wanted:
            return Place(int(rule["pos"]), str(rule["digest"]))
    return None


def compare(wanted: Firewall, observed: ObservedFirewall | None) -> Difference:
    """Compare a container's firewall with the wanted one.

    Args:
        wanted: As it should be.
        observed: As it is; None for a container that is still to be made.
    """
    seen = observed or ObservedFirewall()
    found = Difference(foreign=[rule for rule in seen.rules if not is_ours(rule)])
    there = [canonical(rule) for rule in seen.rules if is_ours(rule)]
    for rule in rules(wanted):
        if (same := canonical(rule)) in there:
            there.remove(same)
        else:
            found.added.append(rule)
    for rule in list(found.added):
        before = next((one for one in there if _name(one) == _name(rule)), None)
        if before is not None:
            there.remove(before)
            found.added.remove(rule)
            found.changed.append((before, rule))
    found.removed = there
    for key, new in options(wanted).items():
        old = seen.options.get(key)
        if (str(int(propstrings.truth(old))) if old and key in _FLAGS else old) != new:
            found.options[key] = new
            found.diffs.append(FieldDiff(field=f"firewall {key}", old=old, new=new))
    found.diffs += [_shown(old, None) for old in found.removed]
    found.diffs += [_shown(old, new) for old, new in found.changed]
    found.diffs += [_shown(None, new) for new in found.added]
    return found


def _name(rule: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(rule.get(key, "") for key in ("type", "proto", "comment"))


def _shown(old: Rule | None, new: Rule | None) -> FieldDiff:
    return FieldDiff(field="firewall rule", old=text(old) if old else None, new=text(new) if new else None)


def calls(base: str, found: Difference, observed: ObservedFirewall | None) -> Iterator[ApiCall]:
    """The calls that make a difference go away. The options come last: nothing is dropped before its rules are there.

    Args:
        base: ``/nodes/{node}/lxc/{vmid}/firewall``.
        found: The difference.
        observed: What it was found in.
    """
    seen = observed or ObservedFirewall()
    positional = _Positional(f"{base}/rules", seen)
    for old in found.removed:
        yield positional.call("DELETE", old, {})
    for old, new in found.changed:
        gone = ",".join(sorted(set(old) - set(new)))
        yield positional.call("PUT", old, {**new, **({"delete": gone} if gone else {})})
    # The last one that is made comes first.
    for rule in reversed(found.added):
        yield ApiCall(method="POST", path=f"{base}/rules", params={**rule, "enable": 1})
    if found.foreign:
        for rule in found.added:
            yield positional.call("PUT", rule, {"moveto": _LAST}, written=True)
    if found.options:
        digest = {"digest": seen.options_digest} if seen.options_digest else {}
        yield ApiCall(method="PUT", path=f"{base}/options", params={**found.options, **digest})


class _Positional:
    """Writes to rules where they stand: the first with the position and the digest of the plan, the others look again."""

    def __init__(self, path: str, seen: ObservedFirewall) -> None:
        self._path, self._seen, self._written = path, seen, False

    def call(
        self, method: Any, rule: Rule, params: Mapping[str, str | int], *, written: bool = False
    ) -> ApiCall:
        line = text(rule)
        if written or self._written:
            return ApiCall(method=method, path=self._path, params=dict(params), rule=line)
        self._written = True
        position = next(n for n, each in enumerate(self._seen.rules) if text(each) == line)
        return ApiCall(
            method=method,
            path=f"{self._path}/{position}",
            params={**params, "digest": self._seen.rules_digest},
        )
