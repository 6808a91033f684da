"""One SSH configuration per client: what it says, which keys are pinned, and which are refused."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from tenacity import stop_after_attempt

from freehold import ssh
from freehold.errors import FreeholdError
from freehold.run.context import Client
from freehold.vault import write_private

from .conftest import Open

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPEGnOW3Bd1tRQmi1GHn8wrBWv8Cvg4zvGzQ2ZqDwH3c"
OTHER = KEY.replace("Bd1t", "Bd2t")


@pytest.fixture
def keyscan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a fake ``ssh-keyscan`` on PATH prints."""
    shown = tmp_path / "shown"
    shown.write_text("")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh-keyscan").write_text(f"#!/bin/sh\ncat {shown}\n")
    (tools / "ssh-keyscan").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "stop_after_delay", lambda _: stop_after_attempt(2))
    return shown


def resolved(config: Path, alias: str) -> dict[str, str]:
    """What OpenSSH itself makes of the configuration for an alias."""
    done = subprocess.run(["ssh", "-F", str(config), "-G", alias], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_openssh_understands_the_configuration(open_client: Open) -> None:
    node = {
        "address": "192.0.2.5",
        "ssh_port": 2222,
        "ssh_user": "admin",
        "ssh_key": "/keys/node",
        "host_key": f"ssh-ed25519 {KEY}",
    }
    client = open_client(nodes={"pve": node})
    client.ensure_secrets()
    access = client.ssh()
    host = resolved(access.config, "postgres")
    assert host["hostname"] == "10.86.0.120"
    assert host["user"] == "root"
    assert host["identityfile"] == str(access.key)
    assert host["identitiesonly"] == "yes"
    assert host["stricthostkeychecking"] == "true"
    assert host["userknownhostsfile"] == str(access.known_hosts)
    assert host["controlmaster"] == "auto"
    assert resolved(access.config, "acme-postgres")["hostname"] == "10.86.0.120"
    assert resolved(access.config, "caddy")["controlpath"] != host["controlpath"]
    pve = resolved(access.config, "pve")
    assert (pve["hostname"], pve["user"], pve["port"]) == ("192.0.2.5", "admin", "2222")
    assert pve["identityfile"] == "/keys/node"
    assert f"[192.0.2.5]:2222 ssh-ed25519 {KEY}\n" in access.known_hosts.read_text()


def test_a_socket_fits_however_long_the_names_are(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(client="a-law-firm-with-quite-a-long-nam")
    client.ensure_secrets()
    with tempfile.TemporaryDirectory(prefix="run") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        access = client.ssh()
        path = Path(resolved(access.config, "caddy")["controlpath"])
        assert len(str(access.config.parent)) > 50
        assert len(str(path)) + len(".") + 16 < 108
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_sockets_never_lie_in_a_folder_that_others_may_enter(client: Client, home: Path) -> None:
    client.ensure_secrets()
    folder = home / f"xdg_runtime_dir/freehold-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(FreeholdError) as caught:
        client.ssh()
    assert caught.value.where == str(folder)
    assert caught.value.remedy


def test_files_are_private_and_the_key_fits_the_public_one(client: Client) -> None:
    client.ensure_secrets()
    access = client.ssh()
    for path in (access.key, access.config, access.known_hosts):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(access.key)], capture_output=True, text=True, check=True
    )
    assert client.public_key().split()[:2] == shown.stdout.split()[:2]
    assert client.public_key().endswith(" freehold@acme")


def test_pins_of_the_client_reach_known_hosts(client: Client) -> None:
    client.ensure_secrets()
    (client.directory / "known_hosts").write_text(f"10.86.0.110 ssh-ed25519 {KEY}\n")
    assert client.ssh().known_hosts.read_text() == f"10.86.0.110 ssh-ed25519 {KEY}\n"


def test_fingerprints_are_openssh_s(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"ssh-ed25519 {KEY} x\n")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, text=True, check=True
    )
    assert ssh.fingerprint(KEY) == shown.stdout.split()[1]
    log = ["Creating SSH host key", f"done: {ssh.fingerprint(KEY)} root@acme-caddy", "TASK OK"]
    assert ssh.fingerprints(log) == {ssh.fingerprint(KEY)}


def test_a_key_that_the_node_printed_is_pinned_in_place_of_an_old_one(tmp_path: Path, keyscan: Path) -> None:
    pins = tmp_path / "known_hosts"
    pins.write_text(f"10.0.0.1 ssh-ed25519 {OTHER}\n10.0.0.10 ssh-ed25519 {OTHER}\n")
    keyscan.write_text(f"# 10.0.0.1:22 SSH-2.0\n10.0.0.1 ssh-rsa {OTHER}\n10.0.0.1 ssh-ed25519 {KEY}\n")
    ssh.pin(pins, "caddy", "10.0.0.1", {ssh.fingerprint(KEY)})
    assert pins.read_text().splitlines() == [
        f"10.0.0.1 ssh-ed25519 {KEY}",
        f"10.0.0.10 ssh-ed25519 {OTHER}",
    ]
    assert ssh.pinned(pins, "10.0.0.1")
    ssh.unpin(pins, "10.0.0.1")
    assert pins.read_text() == f"10.0.0.10 ssh-ed25519 {OTHER}\n"
    assert not ssh.pinned(pins, "10.0.0.1")


def test_ed25519_is_pinned_where_there_is_a_choice(tmp_path: Path, keyscan: Path) -> None:
    keyscan.write_text(f"10.0.0.1 ssh-rsa {OTHER}\n10.0.0.1 ssh-ed25519 {KEY}\n")
    ssh.pin(tmp_path / "pins", "caddy", "10.0.0.1", {ssh.fingerprint(KEY), ssh.fingerprint(OTHER)})
    assert (tmp_path / "pins").read_text() == f"10.0.0.1 ssh-ed25519 {KEY}\n"


def test_another_key_is_refused_and_nothing_is_pinned(tmp_path: Path, keyscan: Path) -> None:
    keyscan.write_text(f"10.0.0.1 ssh-ed25519 {OTHER}\n")
    with pytest.raises(ssh.HostKeyError) as caught:
        ssh.pin(tmp_path / "pins", "caddy", "10.0.0.1", {ssh.fingerprint(KEY)})
    assert ssh.fingerprint(OTHER) in str(caught.value.answer)
    assert not (tmp_path / "pins").exists()


def test_silence_is_an_error_with_the_address(tmp_path: Path, keyscan: Path) -> None:
    with pytest.raises(ssh.UnreachableError) as caught:
        ssh.pin(tmp_path / "pins", "caddy", "10.0.0.1", {ssh.fingerprint(KEY)})
    assert caught.value.where == "10.0.0.1"
    assert caught.value.remedy


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".folder")] == []


def test_a_program_that_never_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ssh.UnreachableError) as caught:
        ssh.run(["sleep", "30"], timeout=0.2, doing="asking the node")
    assert "sleep" in caught.value.message
    assert (caught.value.doing, bool(caught.value.remedy)) == ("asking the node", True)


def test_a_program_that_is_not_there_is_an_error_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FreeholdError) as caught:
        ssh.run(["ssh-keyscan", "10.0.0.1"], timeout=5, doing="looking for the node's key")
    assert "openssh-client" in str(caught.value.remedy)


def test_a_scan_that_hangs_counts_as_no_answer(
    tmp_path: Path, keyscan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools/ssh-keyscan").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(ssh, "_SCAN", 0.2)
    with pytest.raises(ssh.UnreachableError):
        ssh.pin(tmp_path / "pins", "caddy", "10.0.0.1", {ssh.fingerprint(KEY)})


def test_a_program_gets_its_input_and_no_more() -> None:
    assert ssh.run(["cat"], timeout=10, doing="a test", text="a key\n").stdout == "a key\n"
    assert ssh.run(["cat"], timeout=10, doing="a test").stdout == ""


def test_a_program_that_does_not_end_is_named_in_one_line() -> None:
    with pytest.raises(ssh.UnreachableError, match=r"sleep did not end within 0 s") as ended:
        ssh.run(["sleep", *["10"] * 200], timeout=0.1, doing="a test")

    assert len(ended.value.where or "") <= 200
