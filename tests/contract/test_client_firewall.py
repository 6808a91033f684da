"""The firewall of containers against the lab's API: rules written, changed in place, others' rules kept, nothing twice.

Every request is held against the schema of the real API on its way (``test_client_lab.Lab``).
"""

# ruff: noqa: F811 - fixtures of another module have their names again as arguments

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.proxmox import errors, firewall, in_force
from freehold.proxmox.apply import apply
from freehold.proxmox.changes import ApiCall, Plan
from freehold.proxmox.client import PveClient
from freehold.proxmox.plan import plan, plan_down
from freehold.proxmox.spec import ContainerSpec, Firewall, FirewallRule

from .test_client_lab import client, lab, look, root, spec, up  # noqa: F401 - fixtures

BASE = "/nodes/pve/lxc/1000/firewall"
SSH = FirewallRule(direction="in", protocol="tcp", ports="22", peers=("10.0.0.0/24",), comment="SSH")
SQL = FirewallRule(
    direction="in", protocol="tcp", ports="5432", peers=("10.0.0.7/32", "10.0.0.9/32"), comment="SQL for n8n"
)
CLUSTER = FirewallRule(
    direction="in", protocol="tcp", ports="1024:65535", peers=("10.0.0.8/32",), comment="cluster"
)
NAMES = FirewallRule(direction="out", protocol="udp", ports="53", peers=("0.0.0.0/0",), comment="names")
THEIRS: dict[str, Any] = {"type": "in", "action": "DROP", "source": "10.0.0.66", "enable": 1}


def walled(*rules: FirewallRule, number: int = 0, **more: Any) -> ContainerSpec:
    return spec(number, firewall=Firewall(rules=rules, **more))


def lines(client: PveClient) -> list[str]:
    return [firewall.text(rule) for rule in client.get(f"{BASE}/rules")]


def firewall_calls(made: Plan) -> list[ApiCall]:
    return [call for change in made.changes for call in change.calls if "/firewall/" in call.path]


def test_a_container_has_its_rules_before_it_is_started(client: PveClient) -> None:
    wanted = walled(SSH, SQL, CLUSTER, NAMES)
    made = up(client, wanted)
    paths = [call.path for change in made.changes for call in change.calls]
    assert paths == [
        "/nodes/pve/lxc",
        *[f"{BASE}/rules"] * 4,
        f"{BASE}/options",
        "/nodes/pve/lxc/1000/status/start",
    ]
    assert lines(client) == [
        "in ACCEPT tcp 22 from 10.0.0.0/24 (freehold: SSH)",
        "in ACCEPT tcp 5432 from 10.0.0.7,10.0.0.9 (freehold: SQL for n8n)",
        "in ACCEPT tcp 1024:65535 from 10.0.0.8 (freehold: cluster)",
        "out ACCEPT udp 53 (freehold: names)",
    ]
    options = client.get(f"{BASE}/options")
    assert {key: options[key] for key in firewall.options(wanted.firewall)} == {  # type: ignore[arg-type]
        "enable": 1, "policy_in": "DROP", "policy_out": "DROP", "ipfilter": 1, "macfilter": 1,
    }  # fmt: skip
    assert plan([wanted], look(client, wanted)).changes == ()
    shown = [diff.new for change in made.changes for diff in change.diffs if diff.field == "firewall rule"]
    assert shown == lines(client)


def test_eight_unchanged_containers_are_observed_with_two_calls_more_each(client: PveClient) -> None:
    specs = [walled(SSH, SQL, number=number) for number in range(8)]
    up(client, *specs)
    before = client.calls
    assert plan(specs, look(client, *specs)).empty
    assert client.calls - before == 10 + 2 * 8


def test_rules_change_where_they_stand_and_go_when_nothing_wants_them(client: PveClient) -> None:
    up(client, walled(SSH, SQL, NAMES))
    wider = SQL.model_copy(update={"peers": ("10.0.0.9/32", "10.0.0.7/32", "10.0.0.10/32")})
    second = walled(SSH, wider, CLUSTER)
    made = plan([second], look(client, second))
    removed, changed, added = firewall_calls(made)
    assert (removed.method, removed.path, set(removed.params)) == ("DELETE", f"{BASE}/rules/2", {"digest"})
    assert (changed.method, changed.path, bool(changed.rule)) == ("PUT", f"{BASE}/rules", True)
    assert (added.method, added.path) == ("POST", f"{BASE}/rules")
    apply(client, made)
    assert lines(client) == [
        "in ACCEPT tcp 1024:65535 from 10.0.0.8 (freehold: cluster)",
        "in ACCEPT tcp 22 from 10.0.0.0/24 (freehold: SSH)",
        "in ACCEPT tcp 5432 from 10.0.0.10,10.0.0.7,10.0.0.9 (freehold: SQL for n8n)",
    ]
    assert plan([second], look(client, second)).changes == ()


def test_what_was_loosened_by_hand_is_brought_back(client: PveClient) -> None:
    wanted = walled(SSH, SQL)
    up(client, wanted)
    client.call("PUT", f"{BASE}/options", {"enable": 0, "policy_in": "ACCEPT", "delete": "ipfilter"})
    client.call("PUT", f"{BASE}/rules/1", {"enable": 0})
    client.call("DELETE", f"{BASE}/rules/0")
    made = plan([wanted], look(client, wanted))
    fields = [(diff.field, diff.old, diff.new) for change in made.changes for diff in change.diffs]
    assert ("firewall policy_in", "ACCEPT", "DROP") in fields
    assert ("firewall enable", "0", "1") in fields
    assert any(field == "firewall rule" and old and old.endswith("[off]") for field, old, _ in fields)
    # Nothing is dropped before its rules are there.
    assert firewall_calls(made)[-1].path == f"{BASE}/options"
    apply(client, made)
    assert plan([wanted], look(client, wanted)).changes == ()


def test_rules_of_an_administrator_stay_above_ours_and_are_shown(client: PveClient) -> None:
    up(client, walled(SSH))
    client.call("POST", f"{BASE}/rules", THEIRS | {"comment": "not mine"})
    client.call("POST", f"{BASE}/rules", {"type": "group", "action": "office", "enable": 1})
    second = walled(CLUSTER, SQL)
    made = up(client, second)
    assert lines(client) == [
        "group office",
        "in DROP from 10.0.0.66 (not mine)",
        "in ACCEPT tcp 1024:65535 from 10.0.0.8 (freehold: cluster)",
        "in ACCEPT tcp 5432 from 10.0.0.7,10.0.0.9 (freehold: SQL for n8n)",
    ]
    again = plan([second], look(client, second))
    assert again.changes == ()
    assert again.notes == made.notes
    assert [note.rpartition(": ")[2] for note in again.notes] == lines(client)[:2]


def test_a_rule_that_came_between_plan_and_run_stops_the_run(client: PveClient, root: PveClient) -> None:
    up(client, walled(SSH, SQL))
    second = walled(SSH)
    made = plan([second], look(client, second))
    root.call("POST", f"{BASE}/rules", THEIRS)
    with pytest.raises(errors.StaleDigestError):
        apply(client, made)
    assert len(lines(client)) == 3
    up(client, second)
    assert lines(client) == ["in DROP from 10.0.0.66", "in ACCEPT tcp 22 from 10.0.0.0/24 (freehold: SSH)"]


def test_a_rule_that_comes_while_rules_are_written_is_not_the_one_that_goes(
    client: PveClient,
    root: PveClient,
) -> None:
    up(client, walled(SSH, SQL, CLUSTER))
    third = walled(SSH)
    (first, second) = firewall_calls(plan([third], look(client, third)))
    client.call(first.method, first.path, first.params)
    root.call("POST", f"{BASE}/rules", THEIRS)
    change = plan([third], look(client, third)).changes[0]
    apply(client, Plan(client="acme", changes=(change.model_copy(update={"calls": (second,)}),)))
    assert lines(client) == ["in DROP from 10.0.0.66", "in ACCEPT tcp 22 from 10.0.0.0/24 (freehold: SSH)"]


def test_rules_die_with_their_container(client: PveClient, root: PveClient) -> None:
    up(client, walled(SSH, SQL))
    apply(client, plan_down(look(client)))
    assert root.get(f"{BASE}/rules") == []
    assert set(root.get(f"{BASE}/options")) == {"digest"}


def test_more_peers_than_a_rule_may_name_become_several_rules(client: PveClient) -> None:
    peers = tuple(f"10.0.{n}.1/32" for n in range(100))
    wanted = walled(SQL.model_copy(update={"peers": peers}))
    made = up(client, wanted)
    sources = [str(call.params["source"]) for call in firewall_calls(made) if "source" in call.params]
    assert max(map(len, sources)) <= firewall.LONGEST
    assert sorted(",".join(sources).split(",")) == sorted(peer.removesuffix("/32") for peer in peers)
    assert plan([wanted], look(client, wanted)).changes == ()


RULES = st.builds(
    FirewallRule,
    direction=st.sampled_from(["in", "out"]),
    protocol=st.sampled_from(["tcp", "udp"]),
    ports=st.sampled_from(["22", "443", "1024:65535"]),
    peers=st.lists(st.sampled_from(["10.0.0.7/32", "10.1.0.0/16", "192.168.0.9/32"]), max_size=3, unique=True).map(tuple),
    comment=st.sampled_from(["SSH", "SQL for n8n, LiteLLM", "names # and more"]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    one=st.lists(RULES, max_size=5),
    other=st.lists(RULES, max_size=5),
    theirs=st.lists(st.integers(0, 5), max_size=3),
)
def test_any_rules_become_any_others_and_then_nothing_is_to_do(
    client: PveClient,
    one: list[FirewallRule],
    other: list[FirewallRule],
    theirs: list[int],
) -> None:
    up(client, walled(*one))
    for number in theirs:
        client.call("POST", f"{BASE}/rules", THEIRS | {"source": f"10.9.9.{number}"})
        count = len(lines(client))
        client.call("PUT", f"{BASE}/rules/0", {"moveto": min(number, count)})
    foreign = [line for line in lines(client) if "freehold: " not in line]
    wanted = walled(*other)
    up(client, wanted)
    after = lines(client)
    assert [line for line in after if "freehold: " not in line] == foreign
    ours = [line for line in after if "freehold: " in line]
    assert sorted(ours) == sorted(firewall.text(rule) for rule in firewall.rules(wanted.firewall))  # type: ignore[arg-type]
    assert plan([wanted], look(client, wanted)).changes == ()
    apply(client, plan_down(look(client)))


def test_in_force_is_said_only_where_something_filters(client: PveClient, root: PveClient) -> None:
    wanted = walled(SSH)
    guests = [in_force.Walled(wanted.hostname, wanted.node, wanted.vmid)]
    made = plan([wanted], look(client, wanted))
    assert in_force.unwritten(made) == {1000}
    state = in_force.look(client, guests, [wanted.hostname])
    assert state.state == "not written"
    assert "rules of 1 of 1 containers (acme-h0) are still to be written" in state.text
    up(client, wanted)
    before = client.calls
    state = in_force.look(client, guests)
    assert client.calls - before == 1
    assert state.text == (
        "written, not in force: the datacenter firewall is off (Datacenter > Firewall > Options)"
    )
    root.call("PUT", "/cluster/firewall/options", {"enable": 1})
    # The lab stores rules and filters nothing: it must not be taken for a wall.
    assert in_force.look(client, guests).text == (
        "written, not in force: the service pve-firewall of node pve does not run (dead)"
    )
    assert in_force.look(client, []).state == "not used"


def test_a_lost_firewall_flag_is_a_rule_that_is_not_written(client: PveClient) -> None:
    wanted = walled(SSH)
    up(client, wanted)
    net = look(client, wanted).guests[1000].config["net0"]
    client.call("PUT", "/nodes/pve/lxc/1000/config", {"net0": net.replace(",firewall=1", "")})
    assert in_force.unwritten(plan([wanted], look(client, wanted))) == {1000}


def test_digests_are_those_of_the_real_api(client: PveClient) -> None:
    """The digest decides which writes are refused; recorded in ``firewall-guest``, steps 4 and 11."""
    up(client, spec())
    given: dict[str, str | int] = {
        "enable": 1,
        "policy_in": "DROP",
        "log_level_in": "nolog",
        "ipfilter": 1,
        "dhcp": 0,
    }
    client.call("PUT", f"{BASE}/options", given)
    assert client.get(f"{BASE}/options")["digest"] == "1b0cbb5b6b4849b8aad6d63a61feaa4955a1b81b"
    ssh: dict[str, str | int] = {
        "proto": "tcp",
        "dport": "22",
        "source": "192.0.2.0/24",
        "comment": "ssh",
        "enable": 1,
    }
    client.call("POST", f"{BASE}/rules", {"type": "in", "action": "ACCEPT", **ssh})
    client.call("POST", f"{BASE}/rules", {"type": "in", "action": "ACCEPT", "macro": "HTTP"})
    assert {rule["digest"] for rule in client.get(f"{BASE}/rules")} == {
        "5e0af4c98ef83547df56e481df2e0c71a330d834"
    }
