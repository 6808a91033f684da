"""The child process as ``run`` sees it: a document in, events out, nothing else on the pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

from freehold.events import Event, Status
from freehold.layout.types import Host, Layout, NodeAccess
from freehold.schema.stack import Proxmox, Sources, System


def run(document: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "freehold.pyinfra"],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def layout(tmp_path: Path) -> Layout:
    host = Host.model_validate(
        {
            "name": "one",
            "hostname": "acme-one",
            "node": "pve",
            "vmid": 1000,
            "os": "debian-12",
            "interface": "127.0.0.1/8",
            "gateway": "127.0.0.1",
            "bridge": "vmbr0",
            "vlan": None,
            "firewall": True,
            "dns": (),
            "cores": 1,
            "memory": 512,
            "swap": 0,
            "disk": 4,
            "storage": "guests",
            "services": (),
            "start_order": 10,
        }
    )
    return Layout(
        client="acme",
        domain="acme.internal",
        directory=str(tmp_path),
        proxmox=Proxmox(endpoint="https://127.0.0.1:1", token="freehold@pve!acme"),
        pool="freehold-acme",
        nodes=(NodeAccess(name="pve", address="127.0.0.1", ssh_port=1),),
        hosts=(host,),
        services=(),
        routes=(),
        admins=(IPv4Network("10.0.0.0/8"),),
        users=(),
        groups=(),
        sources=Sources(),
        system=System(),
    )


def test_a_refused_request_names_the_key_and_shows_no_secret() -> None:
    child = run({"deploy": "base", "secrets": {"proxmox": {"token": ["hunter2"]}}})

    assert child.returncode == 2
    assert "secrets.proxmox.token" in child.stderr
    assert "hunter2" not in child.stdout + child.stderr


def test_an_unreachable_host_is_an_event_with_a_remedy(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    config.write_text(f"Host *\n  HostName 127.0.0.1\n  Port 1\n  User root\n  IdentityFile {tmp_path}/key\n")

    child = run(
        {"deploy": "base", "layout": layout(tmp_path).model_dump(mode="json"), "ssh_config": str(config)}
    )
    events = [Event.model_validate_json(line) for line in child.stdout.splitlines()]

    assert child.returncode == 1
    assert [(event.host, event.step, event.status) for event in events] == [("one", "Connect", Status.FAILED)]
    assert "remedy" in events[0].data["error"]


def test_an_api_that_does_not_answer_is_an_error_of_the_client(tmp_path: Path) -> None:
    plan = {
        "client": "acme",
        "changes": [
            {
                "action": "start",
                "phase": "power",
                "node": "pve",
                "vmid": 1000,
                "host": "acme-one",
                "calls": [{"method": "POST", "path": "/nodes/pve/lxc/1000/status/start"}],
            }
        ],
    }

    child = run(
        {
            "deploy": "power",
            "layout": layout(tmp_path).model_dump(mode="json"),
            "plan": plan,
            "secrets": {"proxmox": {"token": "hunter2-hunter2"}},
        }
    )
    events = [Event.model_validate_json(line) for line in child.stdout.splitlines()]

    assert child.returncode == 1
    assert events[-1].status is Status.FAILED
    assert events[-1].data["error"]["error"] == "ApiUnreachableError"
    assert "hunter2-hunter2" not in child.stdout + child.stderr


def test_no_host_is_nothing_to_do(tmp_path: Path) -> None:
    child = run({"deploy": "base", "layout": layout(tmp_path).model_dump(mode="json"), "hosts": []})

    assert (child.returncode, child.stdout) == (0, "")
