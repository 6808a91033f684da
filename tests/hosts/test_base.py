"""The base system of every container: who gets in, what it trusts, how it keeps itself up to date."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from pathlib import Path

import pytest
from testinfra.host import Host as Machine

from freehold.layout.network import EXPORTER_PORT
from freehold.layout.types import Host, Layout

MANIFEST = "/etc/freehold/manifest.json"
NVIDIA_MARKER = "/etc/freehold/nvidia-version"
NVIDIA_LIBRARIES = "/usr/lib/x86_64-linux-gnu"


def test_no_unit_failed(host: Machine) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_python_is_complete_enough_for_ansible(host: Machine) -> None:
    host.run_expect([0], "python3 -c 'import shutil, ssl, apt'")


def test_ssh_takes_keys_and_nothing_else(host: Machine) -> None:
    effective = dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines() if " " in line)

    assert effective["authenticationmethods"] == "publickey"
    assert effective["passwordauthentication"] == "no"
    assert effective["kbdinteractiveauthentication"] == "no"
    assert effective["permitrootlogin"] in {"without-password", "prohibit-password"}
    assert effective["x11forwarding"] == "no"


def test_ssh_offers_no_password(this_host: Host, host: Machine) -> None:
    offered = host.backend.run_local(
        "ssh -o BatchMode=yes -o PreferredAuthentications=none -o PubkeyAuthentication=no -o ControlPath=none "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5 root@%s true",
        str(this_host.address),
    )

    assert offered.rc == 255
    assert "Permission denied (publickey)" in offered.stderr


def test_only_known_keys_may_log_in(host: Machine, layout: Layout) -> None:
    lines = host.file("/root/.ssh/authorized_keys").content_string.splitlines()
    keys = [line for line in lines if line and not line.startswith("#")]
    own = [key for key in keys if key.endswith(f" freehold@{layout.client}")]

    assert len(own) == 1
    assert sorted(set(keys) - set(own)) == sorted(set(layout.system.ssh_keys))
    assert host.file("/root/.ssh/authorized_keys").mode == 0o600


def test_firewall_lets_in_what_the_services_declare_and_nothing_else(host: Machine, this_host: Host) -> None:
    policies, opened = _chains(host)

    assert policies["input"] == "drop"
    assert policies["forward"] == "drop"
    wanted = [(rule.protocol, rule.port, rule.last) for rule in this_host.rules if rule.sources]
    assert sorted(opened["input"], key=str) == sorted(wanted, key=str)


def test_firewall_lets_out_what_the_services_need_and_nothing_else(host: Machine, this_host: Host) -> None:
    policies, opened = _chains(host)

    if this_host.outgoing is None:  # the client's word: egress.closed
        assert "output" not in policies
    else:
        wanted = [(rule.protocol, rule.port, rule.last) for rule in this_host.outgoing]
        assert policies["output"] == "drop"
        assert sorted(opened["output"], key=str) == sorted(wanted, key=str)


Opened = tuple[str, int, int | None]


def _chains(host: Machine) -> tuple[dict[str, str], dict[str, list[Opened]]]:
    """Policies of the chains, and the ports that are open in each: protocol, first and, where it is a range, last."""
    entries = json.loads(host.check_output("nft -j list table inet freehold"))["nftables"]
    policies = {entry["chain"]["name"]: entry["chain"]["policy"] for entry in entries if "chain" in entry}
    opened: dict[str, list[Opened]] = {name: [] for name in policies}
    for entry in entries:
        for part in entry.get("rule", {}).get("expr", []):
            left, right = part.get("match", {}).get("left", {}), part.get("match", {}).get("right")
            if isinstance(left, dict) and left.get("payload", {}).get("field") == "dport":
                first, last = right["range"] if isinstance(right, dict) else (right, None)
                opened[entry["rule"]["chain"]].append((left["payload"]["protocol"], first, last))
    return policies, opened


def test_an_undeclared_port_cannot_be_reached(host: Machine, this_host: Host) -> None:
    port = next(number for number in range(47001, 48000) if number not in {r.port for r in this_host.rules})
    listen = f"import socket; s = socket.create_server(('0.0.0.0', {port})); s.settimeout(30); s.accept()"
    host.run_expect([0], "systemd-run --quiet --collect --unit freehold-probe python3 -c %s", listen)
    try:
        host.run_expect(
            [0], "timeout 10 sh -c 'until ss -Hltn sport = :%s | grep -q .; do sleep 0.1; done'", str(port)
        )
        with pytest.raises(TimeoutError):
            socket.create_connection((str(this_host.address), port), timeout=2)
    finally:
        host.run("systemctl stop freehold-probe")


def test_security_upgrades_follow_the_stack(host: Machine, layout: Layout) -> None:
    settings = host.check_output("apt-config dump")
    daily = f'APT::Periodic::Unattended-Upgrade "{int(layout.system.upgrades)}";'

    assert daily in settings
    origins = [
        line for line in settings.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")
    ]
    assert len(origins) == 1
    assert "label=Debian-Security" in origins[0]
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        # masked is an administrator's decision that the base deploy respects; disabled would be an oversight
        assert host.run(f"systemctl is-enabled {timer}").stdout.strip() in {"enabled", "masked"}


def test_clock_time_zone_and_locale(host: Machine, layout: Layout) -> None:
    assert host.file("/etc/localtime").linked_to == f"/usr/share/zoneinfo/{layout.system.timezone}"
    assert abs(float(host.check_output("date +%s.%N")) - time.time()) < 5
    assert host.run("systemctl is-enabled systemd-timesyncd.service").stdout.strip() == "masked"
    charset = host.check_output(". /etc/default/locale && LC_ALL=$LANG locale charmap")
    assert charset == layout.system.locale.partition(".")[2]


def test_logs_are_kept_and_bounded(host: Machine) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")

    assert "SystemMaxUse=256M" in settings.splitlines()
    assert host.file("/var/log/journal").is_directory


def test_gpu_group_has_the_fixed_id(host: Machine) -> None:
    assert host.group("gpu").gid == 2107


def test_gpus_are_those_of_the_layout_and_no_others(host: Machine, this_host: Host) -> None:
    candidates = "/dev/nvidia* /dev/kfd /dev/dri/renderD*"
    there = host.check_output(f'for path in {candidates}; do [ ! -c "$path" ] || echo "$path"; done').split()

    assert sorted(there) == sorted(device.path for device in this_host.devices)
    for device in this_host.devices:
        assert (
            host.check_output("stat -c '%%g %%a' %s", device.path) == f"{device.gid} {int(device.mode, 8):o}"
        )


def test_gpus_are_the_cards_of_the_layout(host: Machine, this_host: Host) -> None:
    """By UUID, since numbers of device nodes move: NVIDIA's driver lists those cards whose device nodes it may open."""
    given = [gpu for gpu in this_host.gpus if gpu.vendor == "nvidia"]
    if given and not host.file("/proc/driver/nvidia/version").exists:
        pytest.skip("the node has no NVIDIA driver that could tell")
    listed = re.findall(r"UUID: (GPU-[0-9a-f-]{36})", host.run("nvidia-smi -L").stdout)

    if all(gpu.uuid for gpu in given):
        assert sorted(listed) == sorted(str(gpu.uuid) for gpu in given)
    else:  # the node could not be asked which card has which UUID
        assert len(listed) == len(given)


def test_there_is_no_kernel_module_of_nvidia(host: Machine) -> None:
    """Modules are the node's: in a container they could not be loaded, and building them there breaks its upgrades."""
    patterns = "'*nvidia*dkms*' 'nvidia-kernel-*' 'nvidia-open-kernel-*' dkms"
    packages = host.run(f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\n' {patterns}").stdout
    modules = host.run("find /lib/modules /usr/src -name 'nvidia*.ko*' -o -name 'nvidia-[0-9]*'").stdout

    assert [line for line in packages.splitlines() if line.startswith("installed ")] == []
    assert modules == ""


def test_user_space_of_the_driver_is_whole(host: Machine, this_host: Host, layout: Layout) -> None:
    """One version, installed to its end by Freehold, with no packages of another one; nothing at all without a GPU."""
    nvidia = any(device.path.startswith("/dev/nvidia") for device in this_host.devices)
    managed = any(node.name == this_host.node and node.driver == "managed" for node in layout.nodes)
    marker = host.file(NVIDIA_MARKER)
    found = host.run(f"ls {NVIDIA_LIBRARIES}/libcuda.so.*.*").stdout.split()
    libraries = [path.rsplit("/libcuda.so.", 1)[-1] for path in found]

    if marker.exists:
        assert nvidia
        assert libraries == [marker.content_string.strip()]
        names = "'nvidia-*' 'libnvidia-*' 'libcuda1*'"
        packages = host.run(f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\n' {names}").stdout
        assert [line for line in packages.splitlines() if line.startswith("installed ")] == []
    else:
        # Freehold gave none: because there is no GPU, or because the driver is not its own and of a version it does not know.
        assert not (nvidia and managed)


def test_user_space_is_that_of_the_nodes_driver(host: Machine, this_host: Host) -> None:
    """To the patch level: another one fails with "Driver/library version mismatch", or computes on the CPU without a word."""
    if not any(device.path.startswith("/dev/nvidia") for device in this_host.devices):
        return
    kernel = host.file("/proc/driver/nvidia/version")
    if not kernel.exists:
        pytest.skip(
            "no NVIDIA driver is in the kernel under this container (as in the lab, whose GPUs are stand-ins): "
            "that it agrees with the user space is not proven here"
        )
    loaded = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", kernel.content_string)

    assert loaded
    assert host.file(f"{NVIDIA_LIBRARIES}/libcuda.so.{loaded[1]}").exists
    host.run_expect([0], "nvidia-smi -L")


def test_clients_authority_is_trusted_once_there_is_one(host: Machine, layout: Layout) -> None:
    authority = Path(layout.directory) / "ca.crt"
    installed = host.file(f"/usr/local/share/ca-certificates/freehold-{layout.client}.crt")

    assert installed.exists == authority.is_file()
    if installed.exists:
        assert authority.read_text().strip() in host.file("/etc/ssl/certs/ca-certificates.crt").content_string


def test_figures_of_the_host_are_given_to_who_knows_the_password(
    host: Machine, this_host: Host, layout: Layout
) -> None:
    ask = f"exec 3<>/dev/tcp/{this_host.address}/{EXPORTER_PORT}; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    answer = host.run("timeout 5 bash -c %s", ask)

    if layout.monitor is None:
        assert answer.rc != 0
    else:
        assert "401" in answer.stdout
        assert host.check_output("systemctl show -P User prometheus-node-exporter.service") == "prometheus"


def test_host_is_what_its_manifest_says(host: Machine) -> None:
    manifest = json.loads(host.file(MANIFEST).content_string)["base"]

    assert host.file("/etc/freehold").mode == 0o700
    assert host.file(MANIFEST).mode == 0o600
    for path, checksum in manifest["files"].items():
        assert hashlib.sha256(host.file(path).content).hexdigest() == checksum, path
    for unit, state in manifest["units"].items():
        assert host.run("systemctl is-active %s", unit).stdout.strip() == state, unit
