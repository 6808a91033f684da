"""Plans and closing summaries, as people and machines read them."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from freehold.cli import summary as show
from freehold.proxmox.changes import Action, ApiCall, Change, Effect, FieldDiff, Phase, Plan, RootStep
from freehold.proxmox.in_force import FirewallState
from freehold.run.summary import HostLine, Summary


def console() -> Console:
    return Console(file=io.StringIO(), width=160, color_system=None)


def text_of(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


CALL = ApiCall(method="PUT", path="/nodes/pve/lxc/1010/config")


def change(action: Action, *diffs: FieldDiff, vmid: int = 1010, **options: object) -> Change:
    values = {"calls": (CALL,), "phase": Phase.CONFIGURE, **options}
    return Change(action=action, node="pve", vmid=vmid, host="acme-caddy", diffs=diffs, **values)  # type: ignore[arg-type]


def test_a_plan_reads_as_a_diff() -> None:
    screen = console()
    step = RootStep(node="pve", vmid=1010, options={"dev0": "/dev/nvidia0"})
    made = Plan(
        client="acme",
        changes=(
            change(
                Action.UPDATE,
                FieldDiff(field="memory", old="512", new="1024"),
                FieldDiff(field="cores", old="2", new=None, effect=Effect.RESTART),
                FieldDiff(
                    field="rootfs", old="8G", new="4G", effect=Effect.IMPOSSIBLE, remedy="Make it anew [/x]"
                ),
            ),
            change(Action.CREATE, FieldDiff(field="hostname", old=None, new="acme-db"), vmid=1020),
            change(
                Action.UPDATE, vmid=1020, calls=(), root_steps=(step,), phase=Phase.ROOT, reason="devices"
            ),
        ),
        notes=("acme-old stays [/x]",),
    )
    show.plan(screen, made, api_calls=7)
    lines = [line.rstrip() for line in text_of(screen).splitlines()]
    assert lines == [
        "~ update acme-caddy (1010 on pve)",
        "    memory: 512 -> 1024",
        "    cores: 2 -> (removed)  (needs a restart)",
        "    rootfs: 8G -> 4G  (impossible in place)",
        "      Make it anew [/x]",
        "+ create acme-caddy (1020 on pve)",
        "    hostname: acme-db",
        "~ update acme-caddy (1020 on pve) as root: devices",
        "    root step: pct set 1010 --dev0 /dev/nvidia0",
        "note: acme-old stays [/x]",
        "2 containers would change.",
        "(7 API calls to find out)",
    ]


def test_every_action_can_be_shown() -> None:
    for action in Action:
        screen = console()
        show.plan(screen, Plan(client="acme", changes=(change(action),)), api_calls=1)
        assert f" {action.value} acme-caddy" in text_of(screen)


def test_an_empty_plan_says_so() -> None:
    screen = console()
    show.plan(screen, Plan(client="acme"), api_calls=3)
    assert "Nothing to change" in text_of(screen)


def test_a_plan_with_nothing_but_the_impossible_does_not_say_that_all_is_well() -> None:
    screen = console()
    diff = FieldDiff(field="rootfs", old="8G", new="4G", effect=Effect.IMPOSSIBLE, remedy="Make it anew")
    show.plan(screen, Plan(client="acme", changes=(change(Action.UPDATE, diff, calls=()),)), api_calls=3)
    assert "Make it anew" in text_of(screen)
    assert "Nothing to change" not in text_of(screen)


def summary(**changes: object) -> Summary:
    values: dict[str, object] = {
        "client": "acme",
        "changes": {"base": 3, "services": 1},
        "hosts": [HostLine("caddy", "10.86.0.110", 1010, "caddy")],
        "addresses": {"Open WebUI": "https://chat.acme.internal"},
        "models": {"assistant": "Qwen3 8B (awq) on vllm, 5 at once, 16384 tokens per conversation"},
        "logins": ["Open WebUI: admin [freehold secrets show acme]"],
        "stand_ins": ["Qdrant 1+stand-in"],
        "notes": ["Names: let your DNS answer"],
        "passed": 12,
        "skipped": 0,
        "folder": "/runs/x",
        "report": "/runs/x/proof.html",
        "seconds": 83.4,
        "api_calls": 42,
        **changes,
    }
    return Summary(**values)  # type: ignore[arg-type]


def test_the_closing_summary_says_what_a_person_needs() -> None:
    screen = console()
    show.summary(screen, summary(), json=False)
    text = text_of(screen)
    for part in (
        "caddy  10.86.0.110  1010  caddy",
        "Open WebUI: https://chat.acme.internal",
        "assistant: Qwen3 8B (awq) on vllm, 5 at once, 16384 tokens per conversation",
        "Log in: Open WebUI: admin [freehold secrets show acme]",
        "Changes: 3 in base, 1 in services",
        "Proof: 12 checks passed; /runs/x/proof.html",
        "1 min 23 s, 42 API calls; run folder /runs/x",
    ):
        assert part in text


def test_a_run_that_changed_nothing_says_so_and_claims_no_proof() -> None:
    screen = console()
    show.summary(screen, summary(changes={}, passed=None, report=None), json=False)
    assert "Nothing had to change." in text_of(screen)
    assert "Proof" not in text_of(screen)


def test_the_summary_for_machines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show.summary(console(), summary(), json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["summary"]["passed"] == 12


def test_skipped_checks_are_not_hidden() -> None:
    screen = console()
    show.summary(screen, summary(skipped=2), json=False)
    assert "12 checks passed, 2 skipped" in text_of(screen)


def test_rules_that_filter_nothing_are_not_called_in_force() -> None:
    off = "written, not in force: the datacenter firewall is off (Datacenter > Firewall > Options)"
    screen = console()
    show.summary(screen, summary(firewall=off), json=False)
    show.plan(screen, Plan(client="acme"), api_calls=3, firewall=FirewallState(state="in force"))
    assert f"Proxmox firewall: {off}" in text_of(screen)
    assert "Proxmox firewall: in force\n" in text_of(screen)
