"""Which commands the operations of the base system yield, and that they yield none where nothing differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from ipaddress import IPv4Network

from freehold.pyinfra import system
from freehold.pyinfra.system import Absent, Directory, File, Link

Commands = Callable[..., list[str]]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


ENTRIES = [
    Directory("/etc/freehold", mode="700"),
    File("/etc/a.conf", "a\n", mode="0644"),
    Link("/etc/localtime", "/usr/share/zoneinfo/UTC"),
    Absent("/etc/gone"),
]
AS_IT_SHOULD_BE = [
    "/etc/freehold\tdirectory\t700\troot\troot\t",
    f"/etc/a.conf\tfile\t644\troot\troot\t{sha256('a' + chr(10))}",
    "/etc/localtime\tlink\t\t\t\t/usr/share/zoneinfo/UTC",
]


def test_tree_asks_once_and_writes_nothing_where_all_is_right(commands: Commands) -> None:
    assert commands(system.tree, {"freehold": AS_IT_SHOULD_BE}, entries=ENTRIES) == []


def test_tree_makes_what_is_missing(commands: Commands) -> None:
    assert commands(system.tree, {}, entries=ENTRIES) == [
        "make directory /etc/freehold",
        "write /etc/a.conf",
        "link /etc/localtime -> /usr/share/zoneinfo/UTC",
    ]


def test_tree_corrects_content_mode_owner_and_target(commands: Commands) -> None:
    answer = [
        "/etc/freehold\tdirectory\t755\troot\troot\t",
        f"/etc/a.conf\tfile\t644\tdaemon\troot\t{sha256('a' + chr(10))}",
        "/etc/localtime\tfile\t644\troot\troot\t" + "0" * 64,
        "/etc/gone\tfile\t644\troot\troot\t" + "0" * 64,
    ]

    assert commands(system.tree, {"freehold": answer}, entries=ENTRIES) == [
        "make directory /etc/freehold",
        "write /etc/a.conf",
        "link /etc/localtime -> /usr/share/zoneinfo/UTC",
        "remove /etc/gone",
    ]


def test_content_of_files_is_not_shown(commands: Commands) -> None:
    shown = commands(system.tree, {}, entries=[File("/etc/key", "hunter2\n", mode="600")])

    assert shown == ["write /etc/key"]


def test_handlers_run_in_their_own_order_and_only_when_asked_for(commands: Commands) -> None:
    offered = {"locale": "locale-gen", "journald": "systemctl restart systemd-journald", "ssh": "reload"}

    shown = commands(system.handlers, {"pending": ["ssh", "locale"]}, commands=offered)

    assert ["locale-gen" in shown[0], "reload" in shown[1], len(shown)] == [True, True, 2]
    assert all("&& rm -f /var/lib/freehold/pending/" in command for command in shown)
    assert commands(system.handlers, {}, commands=offered) == []


def test_packages_reads_lists_only_when_something_is_missing(commands: Commands) -> None:
    answer = ["python3 installed", "nftables config-files"]

    shown = commands(system.packages, {"dpkg-query": answer}, names=["python3", "nftables"])

    assert len(shown) == 2
    assert shown[0].endswith(" update")
    assert shown[1].endswith("install --no-install-recommends -y nftables")
    assert commands(system.packages, {"dpkg-query": answer}, names=["python3"]) == []


def test_packages_that_a_cut_off_run_left_half_installed_are_finished_first(commands: Commands) -> None:
    """apt refuses everything until then; also where all that the base system needs is there."""
    answer = ["python3 installed", "!interrupted"]

    shown = commands(system.packages, {"dpkg-query": answer}, names=["python3"])

    assert len(shown) == 1
    assert shown[0].endswith("dpkg --force-confdef --force-confold --configure -a")
    assert "DPkg::Lock::Timeout" in shown[0]
    missing = commands(system.packages, {"dpkg-query": answer}, names=["python3", "nftables"])
    assert missing[0] == shown[0]
    assert [command.rsplit(" ", 1)[-1] for command in missing[1:]] == ["update", "nftables"]


SOURCES = "/etc/apt/sources.list.d"


def test_a_mirror_is_the_only_archive(commands: Commands) -> None:
    there = ["/etc/apt/sources.list", f"{SOURCES}/0000debian.sources", f"{SOURCES}/freehold.sources"]

    shown = commands(system.only_own_archives, {"ls -d": there}, handler="archives")

    assert shown == [f"put {path} aside" for path in there[:2]]
    assert commands(system.only_own_archives, {"ls -d": there[2:]}, handler="archives") == []


def test_without_a_mirror_the_archives_of_the_template_are_back(commands: Commands) -> None:
    aside = [f"{SOURCES}/0000debian.sources.freehold.disabled"]
    own = f"{SOURCES}/freehold.sources"

    def shown(*there: str) -> list[str]:
        return commands(system.no_own_archives, {"ls -d": list(there)}, handler="archives")

    assert shown(own, *aside) == [f"put {SOURCES}/0000debian.sources back", f"remove {own}"]
    # a run that was cut off between the two
    assert shown(f"{SOURCES}/0000debian.sources", own) == [f"remove {own}"]
    assert shown(f"{SOURCES}/0000debian.sources") == []
    # nothing to go back to: a host without any archive could install nothing
    assert shown(own) == []


def unit(name: str, load: str, active: str, file: str) -> list[str]:
    return [f"Id={name}", f"LoadState={load}", f"ActiveState={active}", f"UnitFileState={file}", ""]


def test_units_are_enabled_started_and_masked(commands: Commands) -> None:
    answer = [
        *unit("nftables.service", "loaded", "inactive", "disabled"),
        *unit("ssh.service", "loaded", "active", "enabled"),
        *unit("systemd-timesyncd.service", "not-found", "inactive", ""),
        *unit("apt-daily.timer", "masked", "inactive", "masked"),
        *unit("apt-daily-upgrade.timer", "loaded", "inactive", "disabled"),
    ]

    shown = commands(
        system.units,
        {"systemctl show": answer},
        running=["nftables.service", "ssh.service"],
        masked=["systemd-timesyncd.service"],
        enabled=["apt-daily.timer", "apt-daily-upgrade.timer"],
    )

    assert shown == [
        "systemctl mask --now systemd-timesyncd.service 2>&1",
        "systemctl enable nftables.service apt-daily-upgrade.timer 2>&1",
        "systemctl start nftables.service",
    ]


def test_a_firewall_that_would_lock_the_controller_out_is_refused(commands: Commands) -> None:
    networks = [IPv4Network("10.20.0.0/24")]

    refused = commands(system.keep_reachable, {"SSH_CONNECTION": ["192.0.2.7"]}, sources=networks)

    assert "192.0.2.7" in refused[0]
    assert "network.admins" in refused[0]
    assert refused[0].endswith("exit 1")
    assert commands(system.keep_reachable, {"SSH_CONNECTION": ["10.20.0.1"]}, sources=networks) == []


def test_users_are_made_before_rules_name_them(commands: Commands) -> None:
    proxy = "proxy:x:13:13:proxy:/bin:/usr/sbin/nologin"

    assert commands(system.system_users, {}, names=[]) == []
    assert commands(system.system_users, {"getent": [proxy]}, names=["proxy"]) == []
    made = commands(system.system_users, {"getent": [proxy]}, names=["prometheus", "proxy"])
    assert len(made) == 1
    assert made[0].startswith("useradd --system ")
    assert made[0].endswith(" prometheus")


def test_firewall_is_applied_again_when_the_rules_in_force_differ(commands: Commands) -> None:
    same, other = "a" * 64 + "  -", "b" * 64 + "  -"

    assert commands(system.firewall, {"nft -s": [same, same]}) == []
    assert commands(system.firewall, {"nft -s": [same, other]})[0].startswith("nft -f /etc/nftables.conf")
    assert commands(system.firewall, {"nft -s": [same]})[0].startswith("nft -f /etc/nftables.conf")


def test_manifest_is_written_when_it_differs(commands: Commands) -> None:
    wanted = system.section(ENTRIES, ["ssh.service"], ["python3"])
    there = '{"manifest": {"base": %s, "services": {}}, "files": {}, "units": {}}'
    assert commands(system.manifest, {"python3": [there % json.dumps(wanted)]}, section=wanted) == []
    assert commands(system.manifest, {"python3": [there % "{}"]}, section=wanted) == [
        "write /etc/freehold/manifest.json"
    ]


def test_digest_of_a_section_follows_everything_that_was_asked_for() -> None:
    base = system.section(ENTRIES, ["ssh.service"], ["python3"])

    assert base == system.section(list(ENTRIES), ["ssh.service"], ["python3"])
    assert base["digest"] != system.section(ENTRIES, ["ssh.service"], ["python3", "nftables"])["digest"]
    assert base["digest"] != system.section([*ENTRIES, Absent("/x")], ["ssh.service"], ["python3"])["digest"]
