"""pyinfra's deploys on real containers: node, containers, root steps, power and base, in a lab of their own.

Root, LXC and a Debian archive are needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from freehold.events import Event, Stage, Status
from freehold.lab import service
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.setup import LabSettings
from freehold.layout.types import Layout
from freehold.run import up
from freehold.run.context import Client
from freehold.run.prepare import prepare

pytestmark = pytest.mark.lab

SETTINGS = LabSettings(port=18007, bridge="fhbase0", subnet="10.98.85.0/24")

STACK = """
client: basetest
domain: basetest.internal
proxmox:
  endpoint: https://127.0.0.1:{port}
  ca_file: {state}/api.pem
  storage: guests
network: {{subnet: {subnet}, gateway: {gateway}, first: 10.98.85.100}}
nodes:
  pve:
    address: {node}
    ssh_key: {state}/node_key
    known_hosts: {state}/known_hosts
    gpus: [{{pci: "0000:01:00.0"}}, {{pci: "0000:02:00.0"}}]
    driver: administrator
services: {{caddy: , postgres: }}
egress: {{closed: false}}
hosts: {{postgres: {{gpus: [1]}}}}
"""


@dataclass
class Site:
    """A client whose two containers have their base system."""

    client: Client
    first: list[Event]

    @property
    def ssh_config(self) -> Path:
        return self.client.ssh().config

    def document(self, deploy: str, layout: Layout | None = None, **more: Any) -> str:
        return json.dumps(
            {
                "deploy": deploy,
                "layout": (layout or self.client.layout).model_dump(mode="json"),
                "ssh_config": str(self.ssh_config),
                **more,
            }
        )

    def run(self, deploy: str, layout: Layout | None = None, **more: Any) -> tuple[int, list[Event], str]:
        """Exit code, events and log of the child process."""
        child = subprocess.run(
            [sys.executable, "-m", "freehold.pyinfra"],
            input=self.document(deploy, layout, **more),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return (
            child.returncode,
            [Event.model_validate_json(line) for line in child.stdout.splitlines()],
            child.stderr,
        )

    def on(self, host: str, command: str) -> str:
        ssh = ["ssh", "-F", str(self.ssh_config), host, command]
        return subprocess.run(ssh, capture_output=True, text=True, timeout=60, check=True).stdout


def steps(events: list[Event], status: Status) -> set[tuple[str, str]]:
    return {(event.host, event.step) for event in events if event.status is status and event.host}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # not pytest's own folders: containers have to pass through those above their files, and paths of sockets are short
    with tempfile.TemporaryDirectory(prefix="fhbase-") as place:
        home = Path(place)
        home.chmod(0o755)
        os.environ["XDG_STATE_HOME"], os.environ["XDG_CONFIG_HOME"] = f"{home}/s", f"{home}/c"
        paths = LabPaths.from_environment(home / "lab")
        try:
            lab = service.start(paths, SETTINGS, print)
            network = IPv4Network(SETTINGS.subnet)
            folder = home / "basetest"
            folder.mkdir()
            (folder / "stack.yml").write_text(
                STACK.format(
                    port=SETTINGS.port,
                    state=paths.state,
                    subnet=network,
                    gateway=network[1],
                    node=lab["node"]["address"],
                )
            )
            client = Client.open(folder / "stack.yml")
            prepare(client)
            events: list[Event] = []
            up.up(client, events.append, up.Options(until=Stage.BASE))
            yield Site(client, events)
        finally:
            service.reset(paths, print, purge=False)
            for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
                os.environ.pop(name, None)


def test_every_stage_made_what_was_missing(site: Site) -> None:
    changed = steps(site.first, Status.CHANGED)

    assert {("pve", "Template debian-12"), ("pve", "Template debian-13"), ("pve", "Root steps")} <= changed
    for host in ("caddy", "postgres"):
        assert {(host, step) for step in ("Container", "Power", "Configuration", "Firewall")} <= changed


def test_a_second_run_changes_nothing(site: Site) -> None:
    events: list[Event] = []

    up.up(site.client, events.append, up.Options(until=Stage.BASE))

    assert steps(events, Status.CHANGED) == set()
    assert steps(events, Status.FAILED) == set()


def test_the_hosts_are_proven(site: Site) -> None:
    checks = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/hosts/test_base.py"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FREEHOLD_STACK": str(site.client.loaded.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert checks.returncode == 0, checks.stdout[-4000:]
    skipped = [line for line in checks.stdout.splitlines() if line.startswith("SKIPPED")]
    # The lab's GPUs are stand-ins.
    assert [line for line in skipped if "NVIDIA driver" not in line] == []


def test_what_was_changed_by_hand_is_put_back(site: Site) -> None:
    site.on(
        "caddy",
        "echo intruder >> /root/.ssh/authorized_keys; rm /etc/apt/apt.conf.d/52freehold-upgrades; "
        "nft add rule inet freehold input tcp dport 9999 accept; systemctl disable --quiet nftables; "
        "systemctl unmask --quiet systemd-timesyncd; chmod 755 /etc/freehold; "
        "ln -sf /usr/share/zoneinfo/UTC /etc/localtime",
    )

    code, events, _ = site.run("base")

    assert code == 0
    assert steps(events, Status.CHANGED) == {("caddy", s) for s in ("Configuration", "Firewall", "Units")}
    assert "intruder" not in site.on("caddy", "cat /root/.ssh/authorized_keys")
    assert "9999" not in site.on("caddy", "nft list ruleset")
    assert steps(site.run("base")[1], Status.CHANGED) == set()


def test_drift_is_seen_by_the_facts(site: Site) -> None:
    site.on("caddy", "echo x >> /etc/default/locale; systemctl stop nftables")

    _, events, _ = site.run("facts")
    found = next(event.data for event in events if event.host == "caddy" and event.step == "Manifest")
    wanted = found["manifest"]["base"]

    assert found["files"]["/etc/default/locale"] != wanted["files"]["/etc/default/locale"]
    assert found["files"]["/etc/nftables.conf"] == wanted["files"]["/etc/nftables.conf"]
    assert found["units"]["nftables.service"] != wanted["units"]["nftables.service"]
    assert site.run("base")[0] == 0


def test_a_dry_run_says_what_it_would_do_and_does_nothing(site: Site) -> None:
    site.on("caddy", "rm /etc/default/locale")

    code, events, _ = site.run("base", options={"dry": True})
    would = next(event for event in events if event.host == "caddy" and event.status is Status.CHANGED)

    assert code == 0
    assert would.data["commands"] == ["write /etc/default/locale"]
    assert site.on("caddy", "test -e /etc/default/locale || echo gone") == "gone\n"
    assert steps(site.run("base")[1], Status.CHANGED) == {("caddy", "Configuration")}


def test_a_run_that_is_killed_is_finished_by_the_next(site: Site) -> None:
    """Killed right after the files were written: what they ask for must still happen."""
    site.on("caddy", "rm /etc/systemd/journald.conf.d/10-freehold.conf /etc/locale.gen")
    before = site.on("caddy", "systemctl show -p MainPID --value systemd-journald")
    child = subprocess.Popen(
        [sys.executable, "-m", "freehold.pyinfra"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(site.document("base", hosts=["caddy"]))
    child.stdin.close()
    for line in child.stdout:
        event = Event.model_validate_json(line)
        if event.step == "Configuration" and event.status is Status.CHANGED:
            child.send_signal(signal.SIGKILL)
            break
    child.wait(timeout=10)

    code, events, _ = site.run("base")

    assert code == 0
    assert ("caddy", "Apply what changed") in steps(events, Status.CHANGED)
    assert site.on("caddy", "systemctl show -p MainPID --value systemd-journald") != before
    assert site.on("caddy", "ls /var/lib/freehold/pending") == ""
    assert steps(site.run("base")[1], Status.CHANGED) == set()


def test_a_firewall_that_would_lock_us_out_is_never_applied(site: Site) -> None:
    layout = site.client.layout
    far = IPv4Network("192.0.2.0/24")
    hosts = [
        host.model_copy(
            update={
                "rules": tuple(
                    rule.model_copy(update={"sources": (far,)}) if rule.port == 22 else rule
                    for rule in host.rules
                )
            }
        )
        for host in layout.hosts
    ]

    code, events, _ = site.run("base", layout.model_copy(update={"hosts": tuple(hosts)}))
    failed = [event for event in events if event.status is Status.FAILED]

    assert code == 1
    assert {event.host for event in failed} == {"caddy", "postgres"}
    assert all("network.admins" in event.message for event in failed)
    assert "192.0.2" not in site.on("caddy", "nft list ruleset; cat /etc/nftables.conf")


def test_a_file_that_is_not_valid_never_replaces_a_good_one(site: Site, tmp_path: Path) -> None:
    good = site.on("caddy", "sha256sum /etc/nftables.conf")
    layout = site.client.layout
    hosts = [
        host.model_copy(
            update={"rules": tuple(rule.model_copy(update={"protocol": "nonsense"}) for rule in host.rules)}
        )
        for host in layout.hosts
    ]

    code, events, _ = site.run("base", layout.model_copy(update={"hosts": tuple(hosts)}))

    assert code == 1
    assert ("caddy", "Configuration") in steps(events, Status.FAILED)
    assert site.on("caddy", "sha256sum /etc/nftables.conf") == good
    assert site.on("caddy", "ls /etc/nftables.conf*") == "/etc/nftables.conf\n"


def test_a_host_that_does_not_answer_fails_alone(site: Site, wait_for_ssh: Callable[[str], None]) -> None:
    site.on("pve", "pct stop 1020")
    try:
        code, events, _ = site.run("base", options={"connect_timeout": 3})
    finally:
        site.on("pve", "pct start 1020")
        wait_for_ssh("postgres")

    assert code == 1
    assert steps(events, Status.FAILED) == {("postgres", "Connect")}
    assert ("caddy", "Manifest") in steps(events, Status.OK)


def test_a_host_with_another_key_is_not_talked_to(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    kind, key, *_ = other.with_suffix(".pub").read_text().split()
    address = str(site.client.layout.host("caddy").address)
    pins = tmp_path / "known_hosts"
    pins.write_text(f"{address} {kind} {key}\n")
    config = tmp_path / "ssh_config"
    known = str(site.client.ssh().known_hosts)
    config.write_text(site.ssh_config.read_text().replace(known, str(pins)))

    code, events, _ = site.run("base", hosts=["caddy"], ssh_config=str(config))
    failed = next(event for event in events if event.status is Status.FAILED)

    assert code == 1
    assert "host key" in failed.message.lower()
    assert steps(events, Status.OK) == set()


def test_a_gpu_is_in_its_container_and_in_no_other(site: Site) -> None:
    assert site.on("postgres", "cd /dev; echo nvidia*").split() == [
        "nvidia-uvm",
        "nvidia-uvm-tools",
        "nvidia1",
        "nvidiactl",
    ]
    assert site.on("caddy", "cd /dev; echo nvidia*").split() == ["nvidia*"]
    assert site.on("postgres", "stat -c '%G %a' /dev/nvidia1") == "gpu 660\n"


def test_no_secret_is_logged(site: Site) -> None:
    secrets = [value for value in site.client.secret_values().values() if len(value) >= 8]
    plan = {"client": "basetest"}
    token = site.client.secrets.get("proxmox.token")

    _, events, log = site.run(
        "container", plan=plan, secrets={"proxmox": {"token": token}}, options={"verbosity": 3}
    )

    assert steps(events, Status.OK) >= {("caddy", "Container"), ("postgres", "Container")}
    said = log + "".join(event.line() for event in events) + "".join(event.line() for event in site.first)
    assert [secret for secret in secrets if secret in said] == []


@pytest.fixture
def wait_for_ssh(site: Site) -> Callable[[str], None]:
    def wait(host: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                site.on(host, "true")
            except subprocess.CalledProcessError:
                assert time.monotonic() < deadline, f"{host} does not answer"
                time.sleep(0.5)
            else:
                return

    return wait
