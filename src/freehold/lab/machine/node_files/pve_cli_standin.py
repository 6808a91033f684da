#!/usr/bin/python3
# Stand-in of pct, pveum, pvesm, pveam, pvesh and pveversion on the node of Freehold's lab: calls the lab's API.
"""A stand-in for development: the commands of a Proxmox VE node, by the name that this file is called with.

Like the real ones they act as root@pam: they speak to the API through a Unix socket that only root can open. What
they print on success follows the real commands closely with ``--output-format json`` and loosely without.
Source: ``PVE::CLI::pct``, ``pveum``, ``pvesm``, ``pveam``, ``pvesh``.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import socket
import sys
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Options = dict[str, Any]

SOCKET = os.environ.get("FREEHOLD_LAB_SOCKET", "/opt/freehold-lab/api/api.sock")
NODE = "/nodes/pve"
LISTS = ("delete", "revert")

PCT = {
    "start": ("POST", NODE + "/lxc/{vmid}/status/start"),
    "stop": ("POST", NODE + "/lxc/{vmid}/status/stop"),
    "shutdown": ("POST", NODE + "/lxc/{vmid}/status/shutdown"),
    "reboot": ("POST", NODE + "/lxc/{vmid}/status/reboot"),
    "set": ("PUT", NODE + "/lxc/{vmid}/config"),
    "config": ("GET", NODE + "/lxc/{vmid}/config"),
    "pending": ("GET", NODE + "/lxc/{vmid}/pending"),
    "status": ("GET", NODE + "/lxc/{vmid}/status/current"),
    "destroy": ("DELETE", NODE + "/lxc/{vmid}"),
    "template": ("POST", NODE + "/lxc/{vmid}/template"),
    "create": ("POST", NODE + "/lxc", "vmid", "ostemplate"),
    "clone": ("POST", NODE + "/lxc/{vmid}/clone", "newid"),
    "resize": ("PUT", NODE + "/lxc/{vmid}/resize", "disk", "size"),
    "list": ("GET", NODE + "/lxc"),
}
PVEUM = {
    "role add": ("POST", "/access/roles", "roleid"),
    "role modify": ("PUT", "/access/roles/{roleid}"),
    "role delete": ("DELETE", "/access/roles/{roleid}"),
    "role list": ("GET", "/access/roles"),
    "user add": ("POST", "/access/users", "userid"),
    "user modify": ("PUT", "/access/users/{userid}"),
    "user delete": ("DELETE", "/access/users/{userid}"),
    "user list": ("GET", "/access/users"),
    "user permissions": ("GET", "/access/permissions", "userid"),
    "user token add": ("POST", "/access/users/{userid}/token/{tokenid}"),
    "user token modify": ("PUT", "/access/users/{userid}/token/{tokenid}"),
    "user token remove": ("DELETE", "/access/users/{userid}/token/{tokenid}"),
    "user token delete": ("DELETE", "/access/users/{userid}/token/{tokenid}"),
    "user token list": ("GET", "/access/users/{userid}/token"),
    "user token permissions": ("GET", "/access/permissions", "userid", "tokenid"),
    "group add": ("POST", "/access/groups", "groupid"),
    "group modify": ("PUT", "/access/groups/{groupid}"),
    "group delete": ("DELETE", "/access/groups/{groupid}"),
    "group list": ("GET", "/access/groups"),
    "acl modify": ("PUT", "/access/acl", "path"),
    "acl delete": ("PUT", "/access/acl", "path"),
    "acl list": ("GET", "/access/acl"),
    "pool add": ("POST", "/pools", "poolid"),
    "pool modify": ("PUT", "/pools", "poolid"),
    "pool delete": ("DELETE", "/pools", "poolid"),
    "pool list": ("GET", "/pools"),
}
PVESM = {
    "status": ("GET", NODE + "/storage"),
    "list": ("GET", NODE + "/storage/{storage}/content"),
    "alloc": ("POST", NODE + "/storage/{storage}/content", "vmid", "filename", "size"),
    "free": ("DELETE", NODE + "/storage/{storage}/content/{volume}"),
    "config": ("GET", "/storage/{storage}"),
}
PVEAM = {
    "available": ("GET", NODE + "/aplinfo"),
    "list": ("GET", NODE + "/storage/{storage}/content"),
    "download": ("POST", NODE + "/aplinfo", "storage", "template"),
    "remove": ("DELETE", NODE + "/storage/{storage}/content/{volume}"),
}
PVESH = {"get": "GET", "create": "POST", "set": "PUT", "delete": "DELETE"}
ALIASES = {
    "aclmod": "acl modify", "acldel": "acl delete", "roleadd": "role add", "rolemod": "role modify",
    "roledel": "role delete", "useradd": "user add", "usermod": "user modify", "userdel": "user delete",
    "groupadd": "group add", "groupmod": "group modify", "groupdel": "group delete",
}  # fmt: skip


class CommandError(Exception):
    """What goes to standard error, and the exit status."""

    def __init__(self, text: str, status: int = 255) -> None:
        super().__init__(text)
        self.status = status


class Connection(http.client.HTTPConnection):
    """HTTP over the API's Unix socket."""

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


def call(method: str, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The ``data`` of an answer; a failure carries the text that the real command prints."""
    body: str | None = urllib.parse.urlencode(parameters or {}, doseq=True)
    url = "/api2/json" + urllib.parse.quote(path)
    headers: dict[str, str] = {}
    if method in ("GET", "DELETE"):
        url += "?" + body if body else ""
        body = None
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection = Connection("localhost", timeout=600)
    try:
        connection.request(method, url, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except OSError as error:
        raise CommandError(f"ipcc_send_rec failed: {error.strerror or error}") from error
    content = json.loads(text) if text else {}
    if answer.status == 200:
        return content.get("data")
    if answer.status == 400:
        lines = [f"{key}: {value.rstrip()}" for key, value in (content.get("errors") or {}).items()]
        raise CommandError("\n".join([f"400 {answer.reason}", *lines]))
    message = (content.get("message") or answer.reason).rstrip("\n")
    raise CommandError(message, 2 if message.startswith("Configuration file") else 255)


def follow(upid: str) -> None:
    """Print a task's log while it runs; a failed task ends the command with the task's text."""
    printed = 0
    while True:
        status = call("GET", f"{NODE}/tasks/{upid}/status")
        for line in call("GET", f"{NODE}/tasks/{upid}/log", {"start": printed, "limit": 500}):
            if line["n"] > printed and not line["t"].startswith(("TASK ", "no content")):
                print(line["t"], flush=True)
            printed = max(printed, line["n"]) if line["t"] != "no content" else printed
        if status["status"] == "stopped":
            break
        time.sleep(0.2)
    if status["exitstatus"] != "OK" and not status["exitstatus"].startswith("WARNINGS"):
        raise CommandError(status["exitstatus"])


def parse(arguments: Sequence[str]) -> tuple[list[str], Options]:
    """Positional arguments, and options in the forms ``--key value``, ``-key value``, ``--key=value``, ``--flag``."""
    words: list[str] = []
    options: Options = {}
    index = 0
    while index < len(arguments):
        word = arguments[index]
        index += 1
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        key, equals, value = word.lstrip("-").partition("=")
        if not equals:
            following = arguments[index] if index < len(arguments) else None
            if following is None or following.startswith("--"):
                value = "1"
            else:
                value, index = following, index + 1
        if key in options:
            options[key] = f"{options[key]},{value}" if key in LISTS else [*as_list(options[key]), value]
        else:
            options[key] = value
    return words, options


def as_list(value: Any) -> list[Any]:
    """A repeated option's values so far."""
    return value if isinstance(value, list) else [value]


def lookup(table: Mapping[str, tuple[str, ...]], words: list[str]) -> tuple[str, tuple[str, ...], list[str]]:
    """The entry of the longest command that ``words`` begin with, and the words after it."""
    if words and words[0] in ALIASES and ALIASES[words[0]] in table:
        words = [*ALIASES[words[0]].split(), *words[1:]]
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in table:
            return name, table[name], words[length:]
    raise CommandError(f"ERROR: unknown command '{program()} {' '.join(words[:2])}'")


def program() -> str:
    """The name that this file was called with."""
    return Path(sys.argv[0]).name


def bind(entry: Sequence[str], words: Sequence[str], options: Options) -> tuple[str, str, Options]:
    """Method, path and parameters of a call: path placeholders first, then the named positional arguments."""
    method, path, *names = entry
    left = list(words)
    placeholders = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    for name in [*placeholders, *names]:
        if not left and name in placeholders:
            raise CommandError(
                f"400 not enough arguments\n{name}: property is missing and it is not optional"
            )
        if not left:
            break
        value = left.pop(0)
        if name in placeholders:
            path = path.replace("{" + name + "}", value)
        else:
            options.setdefault(name, value)
    if left:
        raise CommandError("400 too many arguments")
    return method, path, options


def show(data: Any, form: str, columns: Sequence[str] | None = None) -> None:
    """Print data as JSON, or as plain columns and lines."""
    if form in ("json", "json-pretty", "yaml"):
        print(json.dumps(data, indent=3 if form == "json-pretty" else None, sort_keys=True))
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        columns = columns or sorted({key for row in data for key in row})
        widths = [max(len(c), *(len(str(row.get(c, ""))) for row in data)) for c in columns]
        print("  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip())
        for row in data:
            print(
                "  ".join(str(row.get(c, "")).ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip()
            )
    elif isinstance(data, dict):
        for key in sorted(data):
            value = data[key]
            print(f"{key}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")
    elif data is not None and data != []:
        print(data)


def finish(data: Any, form: str, columns: Sequence[str] | None = None) -> None:
    """Follow a task to its end, or print data."""
    if isinstance(data, str) and data.startswith("UPID:"):
        follow(data)
    else:
        show(data, form, columns)


def pct(words: list[str], options: Options) -> None:
    """``pct``."""
    name, entry, rest = lookup(PCT, words)
    form = options.pop("output-format", "text")
    method, path, parameters = bind(entry, rest, options)
    if "ssh-public-keys" in parameters:
        parameters["ssh-public-keys"] = Path(parameters["ssh-public-keys"]).read_text("utf-8")
    data = call(method, path, parameters)
    if name == "list":
        if data:
            print(f"{'VMID':<10} {'Status':<10} {'Lock':<12} {'Name':<20}")
        for row in sorted(data, key=lambda row: int(row["vmid"])):
            print(
                f"{row['vmid']:<10} {row['status']:<10} {row.get('lock', ''):<12} {row.get('name', ''):<20}"
            )
    elif name == "config":
        for key in sorted(key for key in data if key != "digest"):
            value = (
                urllib.parse.quote(str(data[key]), safe=" /:,.;=@+-_()")
                if key == "description"
                else data[key]
            )
            print(f"{key}: {value}")
    elif name == "status":
        print(f"status: {data['status']}")
    elif name == "pending":
        for row in data:
            if row.get("delete"):
                print(f"del {row['key']}: {row.get('value', '')}")
            else:
                print(
                    f"{'new' if 'pending' in row else 'cur'} {row['key']}: {row.get('pending', row.get('value'))}"
                )
    else:
        finish(data, form)


def pveum(words: list[str], options: Options) -> None:
    """``pveum``."""
    name, entry, rest = lookup(PVEUM, words)
    form = options.pop("output-format", "text")
    if name.startswith("acl "):  # the real command takes any unambiguous beginning of an option
        for short in ("user", "group", "token", "role"):
            if short in options:
                options[f"{short}s"] = options.pop(short)
    if name == "acl delete":
        options["delete"] = "1"
    method, path, parameters = bind(entry, rest, options)
    if name == "user token permissions":
        parameters["userid"] += "!" + parameters.pop("tokenid")
    finish(call(method, path, parameters), form)


def pvesm(words: list[str], options: Options) -> None:
    """``pvesm``."""
    name, entry, rest = lookup(PVESM, words)
    form = options.pop("output-format", "text")
    if name == "free" and rest and ":" in rest[0]:
        rest = [rest[0].split(":", 1)[0], *rest]
    data = call(*bind(entry, rest, options))
    if name == "status":
        print("Name             Type     Status           Total            Used       Available        %")
        for row in sorted(data, key=lambda row: row["storage"]):
            state = "active" if row.get("active") else "disabled" if not row.get("enabled") else "inactive"
            total, used, free = (row.get(key, 0) // 1024 for key in ("total", "used", "avail"))
            share = f"{used / total:>8.2%}" if total else "     N/A"
            print(
                f"{row['storage']:<16} {row['type']:>8} {state:>10} {total:>15} {used:>15} {free:>15} {share}"
            )
    elif name == "list":
        show(sorted(data, key=lambda row: row["volid"]), form, ["volid", "format", "content", "size", "vmid"])
    else:
        finish(data, form)


def pveam(words: list[str], options: Options) -> None:
    """``pveam``."""
    if words == ["update"]:
        print("update successful")
        return
    name, entry, rest = lookup(PVEAM, words)
    section = options.pop("section", None)
    if name == "remove" and rest:
        rest = [rest[0].split(":", 1)[0], *rest]
    if name == "list":
        options["content"] = "vztmpl"
    data = call(*bind(entry, rest, options))
    if name == "available":
        for row in sorted(data, key=lambda row: (row["section"], row["template"])):
            if section in (None, row["section"]):
                print(f"{row['section']:<15} {row['template']}")
    elif name == "list":
        print(f"{'NAME':<60} {'SIZE':<6}")
        for row in sorted(data, key=lambda row: row["volid"]):
            print(f"{row['volid']:<60} {row['size'] / 1048576:.2f}MB")
    else:
        finish(data, "text")


def pvesh(words: list[str], options: Options) -> None:
    """``pvesh``."""
    if len(words) != 2 or words[0] not in PVESH:
        raise CommandError("ERROR: usage: pvesh get|create|set|delete <api_path> [OPTIONS] [FORMAT_OPTIONS]")
    form = options.pop("output-format", "text")
    options.pop("noborder", None)
    finish(call(PVESH[words[0]], "/" + words[1].strip("/"), options), form)


def pveversion(words: list[str], options: Options) -> None:
    """``pveversion``."""
    del words, options
    version = call("GET", "/version")
    print(f"pve-manager/{version['version']}/{version['repoid']} (running kernel: {platform.release()})")


COMMANDS = {
    "pct": pct,
    "pveum": pveum,
    "pvesm": pvesm,
    "pveam": pveam,
    "pvesh": pvesh,
    "pveversion": pveversion,
}


def main() -> None:
    """Run the command whose name this file was called with."""
    if program() not in COMMANDS:
        sys.exit(f"{program()}: not a command of the lab's node")
    try:
        COMMANDS[program()](*parse(sys.argv[1:]))
    except CommandError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.status)


if __name__ == "__main__":
    main()
