"""Clients of one inventory that share a Proxmox VE server must not share VMIDs, addresses or a name."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from freehold.schema.load import DEFAULTS_FILE, STACK_FILE, LoadedStack, load_stack
from freehold.schema.problems import Problem, StackError
from freehold.schema.stack import Stack

HUNDRED = 100
"""VMIDs and addresses that belong to one client."""


def check(loaded: LoadedStack) -> None:
    """Holds a client's ranges against those of its neighbours at the same API endpoint.

    A neighbour whose own file is wrong is left out: that file is refused when it is used.

    Raises:
        StackError: With all overlaps.
    """
    problems = [
        problem.located(loaded.origins)
        for neighbour in of(loaded)
        for problem in _overlaps(loaded.stack, neighbour)
    ]
    if problems:
        raise StackError(problems, doing="holding the client against its neighbours")


def of(loaded: LoadedStack) -> Iterator[Stack]:
    """The other clients of the inventory at the same API endpoint, as far as their files can be read."""
    inventory = loaded.directory.parent
    endpoint = loaded.stack.proxmox.endpoint.rstrip("/")
    defaults = inventory / DEFAULTS_FILE
    shared = defaults.is_file() and endpoint in defaults.read_text(encoding="utf-8")
    for file in sorted(inventory.glob(f"*/{STACK_FILE}")):
        # Most clients have a server of their own: their files are searched, not parsed.
        if file == loaded.path or not (shared or endpoint.encode() in file.read_bytes()):
            continue
        try:
            neighbour = load_stack(file).stack
        except StackError:
            continue
        if neighbour.proxmox.endpoint.rstrip("/") == endpoint:
            yield neighbour


def _overlaps(own: Stack, other: Stack) -> Iterator[Problem]:
    name = f'the client "{other.client}"'
    if own.client == other.client:
        yield Problem(("client",), "is the name of another client of this server", found=own.client)
    if not own.exclusive and not other.exclusive:
        return
    first, theirs = own.vmids.first, other.vmids.first
    if abs(first - theirs) < HUNDRED:
        yield Problem(
            ("vmids", "first"),
            f"the VMIDs {first} to {first + HUNDRED - 1} overlap those of {name}, {theirs} to {theirs + HUNDRED - 1}",
            allowed="another hundred, on the same server",
        )
    start, begin = own.network.first_address, other.network.first_address
    if own.network.subnet.overlaps(other.network.subnet) and abs(int(start) - int(begin)) < HUNDRED:
        last, end = IPv4Address(int(start) + HUNDRED - 1), IPv4Address(int(begin) + HUNDRED - 1)
        yield Problem(
            ("network", "first"),
            f"the addresses {start} to {last} overlap those of {name}, {begin} to {end}",
            allowed="another hundred, or another subnet",
        )
