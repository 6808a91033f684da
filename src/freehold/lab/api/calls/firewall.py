"""Firewall of guests, of the node and of the datacenter: stored, never in force (part of a stand-in of Proxmox VE).

A port of ``PVE::API2::Firewall``; the lab is for development.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from freehold.lab.answers import bad_parameters, failed
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call
from freehold.lab.formats import split_list
from freehold.lab.lxc_update import STALE

_EMPTY = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
_RULE = [
    "type",
    "action",
    "macro",
    "proto",
    "dport",
    "sport",
    "source",
    "dest",
    "iface",
    "enable",
    "comment",
    "log",
    "icmp-type",
]
_SCOPES = {
    "cluster": "/cluster/firewall",
    "node": "/nodes/{node}/firewall",
    "vm": "/nodes/{node}/lxc/{vmid}/firewall",
}


def _key(call: Call, scope: str) -> str:
    return f"vm/{call.vmid}" if scope == "vm" else scope


def _read(call: Call, scope: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"options": {}, "rules": [], "aliases": {}, "ipset": {}, "groups": {}}
    found: dict[str, Any] = call.lab.state.data["firewall"].get(_key(call, scope), empty)
    return found


def _write(call: Call, scope: str) -> dict[str, Any]:
    found = _read(call, scope)
    call.lab.state.data["firewall"][_key(call, scope)] = found
    return found


def _digest(content: Any) -> str:
    """SHA-1 of what is stored; of nothing it is that of an empty file."""
    filled = any(content.values()) if isinstance(content, dict) else bool(content)
    text = json.dumps(content, sort_keys=True) if filled else ""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() if text else _EMPTY


def _of_options(options: Mapping[str, Any]) -> str:
    """``PVE::Firewall::copy_opject_with_digest``; of nothing it is that of an empty file."""
    return _of_entries([options])


def _of_rules(rules: Sequence[Mapping[str, Any]]) -> str:
    return _of_entries([_full(rule) for rule in rules])


def _of_entries(entries: Sequence[Mapping[str, Any]]) -> str:
    """``PVE::Firewall::copy_list_with_digest``: of each entry its properties by name, a line each."""
    text = "".join(f"{key}:{entry[key]}\n" for entry in entries for key in sorted(entry))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _check(call: Call, digest: str) -> None:
    if (given := call.get("digest")) and given != digest:
        raise failed(STALE)


def _number(value: str) -> int | str:
    return int(value) if value.lstrip("-").isdigit() else value


def _options(scope: str, path: str) -> None:
    @endpoint(f"GET {path}/options")
    def read(call: Call) -> Any:
        content = _read(call, scope)
        options = {key: _number(str(value)) for key, value in content["options"].items()}
        return {**options, "digest": _of_options(content["options"])}

    @endpoint(f"PUT {path}/options")
    def write(call: Call) -> Any:
        with call.lab.state.change():
            content = _write(call, scope)
            _check(call, _of_options(content["options"]))
            for key in split_list(call.get("delete") or ""):
                content["options"].pop(key, None)
            given = {k: v for k, v in call.params.items() if k not in ("node", "vmid", "delete", "digest")}
            content["options"].update(given)


def _shown_rule(rule: Mapping[str, Any], position: int | str, digest: str) -> dict[str, Any]:
    return {**_full(rule), "pos": position, "digest": digest}


def _full(rule: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: rule[key] for key in _RULE if key in rule} | {"enable": int(rule.get("enable", 0))}
    addresses = [rule[key] for key in ("source", "dest") if key in rule]
    versions = {v for a in addresses if (v := _ip_version(a))}
    return {**shown, **({"ipversion": versions.pop()} if len(versions) == 1 else {})}


def _ip_version(text: str) -> int | None:
    try:
        return ipaddress.ip_network(text.split(",")[0].split("-")[0], strict=False).version
    except ValueError:
        return None


def _check_rule(call: Call, scope: str, rule: Mapping[str, Any]) -> None:
    """``PVE::Firewall::verify_rule``."""
    errors: dict[str, str] = {}
    kind, action = rule.get("type"), rule.get("action")
    if kind in ("in", "out", "forward") and action not in ("ACCEPT", "DROP", "REJECT"):
        errors["action"] = f"unknown action '{action}'"
    for port in ("dport", "sport"):
        if port in rule and "proto" not in rule and "macro" not in rule:
            errors["proto"] = f"missing property - '{port}' requires this property"
    if "iface" in rule and scope == "vm" and not str(rule["iface"]).startswith("net"):
        errors["iface"] = "value does not match the regex pattern 'net\\d+'"
    names = {
        *_read(call, scope)["aliases"],
        *call.lab.state.data["firewall"].get("cluster", {}).get("aliases", {}),
    }
    for key in ("source", "dest"):
        for address in str(rule.get(key, "")).split(","):
            bare = address.removeprefix("dc/").removeprefix("guest/")
            if address and not address.startswith("+") and _ip_version(address) is None and bare not in names:
                errors[key] = f"no such alias '{address}'"
    if errors:
        raise bad_parameters(errors)


def _rules(scope: str, path: str, group: bool = False) -> None:
    base = path if group else f"{path}/rules"

    def place(call: Call, content: dict[str, Any]) -> list[dict[str, Any]]:
        if not group:
            rules: list[dict[str, Any]] = content["rules"]
            return rules
        name = str(call.params["group"])
        if name not in content["groups"]:
            raise failed(f"no such security group '{name}'")
        found: list[dict[str, Any]] = content["groups"][name]["rules"]
        return found

    @endpoint(f"GET {base}")
    def read(call: Call) -> Any:
        content = _read(call, scope)
        rules = place(call, content)
        return [_shown_rule(rule, position, _of_rules(rules)) for position, rule in enumerate(rules)]

    @endpoint(f"POST {base}")
    def create(call: Call) -> Any:
        with call.lab.state.change():
            rules = place(call, _write(call, scope))
            rule = {key: call.params[key] for key in _RULE if key in call.params}
            _check_rule(call, scope, rule)
            # As the real API does: first, whatever `pos` says, and without a look at `digest`.
            rules.insert(0, {"enable": 0, **rule})

    @endpoint(f"GET {base}/{{pos}}")
    def one(call: Call) -> Any:
        rules = place(call, _read(call, scope))
        position = _position(call, rules)
        return _shown_rule(rules[position], str(position), _of_rules(rules))

    @endpoint(f"PUT {base}/{{pos}}")
    def update(call: Call) -> Any:
        with call.lab.state.change():
            rules = place(call, _write(call, scope))
            _check(call, _of_rules(rules))
            position = _position(call, rules)
            if call.get("moveto") is not None:
                target = call.number("moveto")
                moved = rules.pop(position)
                rules.insert(target - (target > position), moved)
                return
            rule = {**rules[position], **{key: call.params[key] for key in _RULE if key in call.params}}
            for key in split_list(call.get("delete") or ""):
                rule.pop(key, None)
            _check_rule(call, scope, rule)
            rules[position] = rule

    @endpoint(f"DELETE {base}/{{pos}}")
    def delete(call: Call) -> Any:
        with call.lab.state.change():
            rules = place(call, _write(call, scope))
            _check(call, _of_rules(rules))
            del rules[_position(call, rules)]


def _position(call: Call, rules: list[dict[str, Any]]) -> int:
    position = call.number("pos")
    if position >= len(rules):
        raise failed(f"no rule at position {position}")
    return position


def _aliases(scope: str, path: str) -> None:
    @endpoint(f"GET {path}/aliases")
    def read(call: Call) -> Any:
        aliases = _read(call, scope)["aliases"]
        return [{**alias, "digest": _digest(aliases)} for alias in aliases.values()]

    @endpoint(f"POST {path}/aliases")
    def create(call: Call) -> Any:
        name, cidr = str(call.params["name"]), str(call.params["cidr"])
        with call.lab.state.change():
            aliases = _write(call, scope)["aliases"]
            if name in aliases:
                raise bad_parameters({"name": f"alias '{name}' already exists"})
            comment = {"comment": call.get("comment")} if call.get("comment") else {}
            aliases[name] = {"name": name, "cidr": cidr, "ipversion": _ip_version(cidr) or 4, **comment}

    @endpoint(f"DELETE {path}/aliases/{{name}}")
    def delete(call: Call) -> Any:
        with call.lab.state.change():
            aliases = _write(call, scope)["aliases"]
            if call.params["name"] not in aliases:
                raise bad_parameters({"name": f"no such alias '{call.params['name']}'"})
            del aliases[str(call.params["name"])]


def _sets(scope: str, path: str) -> None:
    @endpoint(f"GET {path}/ipset")
    def read(call: Call) -> Any:
        sets = _read(call, scope)["ipset"]
        return [
            {"name": name, **({"comment": s["comment"]} if s.get("comment") else {}), "digest": _digest(sets)}
            for name, s in sets.items()
        ]

    @endpoint(f"POST {path}/ipset")
    def create(call: Call) -> Any:
        name = str(call.params["name"])
        with call.lab.state.change():
            sets = _write(call, scope)["ipset"]
            if name in sets:
                raise bad_parameters({"name": f"IPSet '{name}' already exists"})
            sets[name] = {"comment": call.get("comment"), "entries": []}

    @endpoint(f"GET {path}/ipset/{{name}}")
    def entries(call: Call) -> Any:
        found = _set(call, scope)["entries"]
        return [{**entry, "digest": _digest(found)} for entry in found]

    @endpoint(f"POST {path}/ipset/{{name}}")
    def add(call: Call) -> Any:
        with call.lab.state.change():
            _write(call, scope)
            found, cidr = _set(call, scope)["entries"], str(call.params["cidr"])
            if any(entry["cidr"] == cidr for entry in found):
                raise bad_parameters({"cidr": f"address '{cidr}' already exists"})
            entry: dict[str, Any] = {"cidr": cidr}
            if call.get("comment"):
                entry["comment"] = call.get("comment")
            if call.flag("nomatch"):
                entry["nomatch"] = 1
            found.insert(0, entry)

    @endpoint(f"DELETE {path}/ipset/{{name}}")
    def delete(call: Call) -> Any:
        with call.lab.state.change():
            sets = _write(call, scope)["ipset"]
            name = str(call.params["name"])
            if _set(call, scope)["entries"] and not call.flag("force"):
                raise failed(f"IPSet '{name}' is not empty")
            del sets[name]

    @endpoint(f"DELETE {path}/ipset/{{name}}/{{cidr}}")
    def remove(call: Call) -> Any:
        with call.lab.state.change():
            found = _set(call, scope)
            found["entries"] = [entry for entry in found["entries"] if entry["cidr"] != call.params["cidr"]]


def _set(call: Call, scope: str) -> dict[str, Any]:
    name = str(call.params["name"])
    found: dict[str, Any] | None = _read(call, scope)["ipset"].get(name)
    if found is None:
        raise failed(f"no such IPSet '{name}'")
    return found


def _references(scope: str, path: str) -> None:
    @endpoint(f"GET {path}/refs")
    def read(call: Call) -> Any:
        answer: list[dict[str, Any]] = []
        for where, name in (("dc", "cluster"), *([("guest", _key(call, scope))] if scope == "vm" else [])):
            content = call.lab.state.data["firewall"].get(name, {})
            for kind, sign in (("alias", ""), ("ipset", "+")):
                for entry, detail in content.get("aliases" if kind == "alias" else kind, {}).items():
                    comment = {"comment": detail["comment"]} if detail.get("comment") else {}
                    answer.append(
                        {"type": kind, "name": entry, "ref": sign + entry, "scope": where, **comment}
                    )
        wanted = call.get("type")
        return [entry for entry in answer if wanted in (None, entry["type"])]


for _scope, _path in _SCOPES.items():
    _options(_scope, _path)
    _rules(_scope, _path)
    if _scope != "node":
        _aliases(_scope, _path)
        _sets(_scope, _path)
        _references(_scope, _path)
_rules("cluster", "/cluster/firewall/groups/{group}", group=True)


@endpoint("GET /nodes/{node}/lxc/{vmid}/firewall")
def index(_call: Call) -> Any:
    """The directory of a guest's firewall."""
    return [{"name": name} for name in ("rules", "aliases", "ipset", "refs", "options")]


@endpoint("GET /cluster/firewall/groups")
def groups(call: Call) -> Any:
    """Security groups."""
    found = _read(call, "cluster")["groups"]
    return [
        {"group": name, **({"comment": g["comment"]} if g.get("comment") else {}), "digest": _digest(found)}
        for name, g in found.items()
    ]


@endpoint("POST /cluster/firewall/groups")
def create_group(call: Call) -> Any:
    """A new security group."""
    name = str(call.params["group"])
    with call.lab.state.change():
        found = _write(call, "cluster")["groups"]
        if name in found:
            raise bad_parameters({"group": f"Security group '{name}' already exists"})
        found[name] = {"comment": call.get("comment"), "rules": []}


@endpoint("DELETE /cluster/firewall/groups/{group}")
def delete_group(call: Call) -> Any:
    """Remove an empty security group."""
    name = str(call.params["group"])
    with call.lab.state.change():
        found = _write(call, "cluster")["groups"]
        if found.get(name, {}).get("rules"):
            raise failed(f"Security group '{name}' is not empty")
        found.pop(name, None)
