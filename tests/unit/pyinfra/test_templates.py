"""What the base system's templates become."""

from __future__ import annotations

from freehold.render import render


def test_packages_come_from_the_clients_mirror_and_from_nowhere_else() -> None:
    text = render("base/apt.sources.j2", {"mirror": "https://mirror.acme.internal/", "codename": "trixie"})

    assert text.splitlines() == [
        "# Managed by Freehold: Debian from the client's own mirror.",
        "Types: deb",
        "URIs: https://mirror.acme.internal/debian",
        "Suites: trixie trixie-updates",
        "Components: main",
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
        "# Debian's signature holds; how old a mirror may grow is its owner's decision.",
        "Check-Valid-Until: no",
        "",
        "Types: deb",
        "URIs: https://mirror.acme.internal/debian-security",
        "Suites: trixie-security",
        "Components: main",
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
        "# Debian's signature holds; how old a mirror may grow is its owner's decision.",
        "Check-Valid-Until: no",
    ]


def test_the_firewall_replaces_its_own_table_at_once_and_drops_by_default() -> None:
    rules = [{"port": 5432, "protocol": "tcp", "sources": ["10.0.0.1/32", "10.0.0.4/30"], "comment": "sql"}]

    lines = [
        line.strip()
        for line in render("base/nftables.conf.j2", {"rules": rules, "outgoing": None}).splitlines()
    ]

    assert lines[1:4] == ["table inet freehold", "delete table inet freehold", "table inet freehold {"]
    assert "type filter hook input priority filter; policy drop;" in lines
    assert 'ip saddr { 10.0.0.1/32, 10.0.0.4/30 } tcp dport 5432 accept comment "sql"' in lines
    assert not any("flush ruleset" in line for line in lines)


def test_what_leaves_is_refused_at_once_but_for_what_is_listed() -> None:
    listed = [
        {
            "destinations": ["10.0.0.5/32"],
            "protocol": "tcp",
            "port": 3128,
            "users": [],
            "comment": "egress proxy",
        },
        {
            "destinations": ["0.0.0.0/0"],
            "protocol": "tcp",
            "port": "1-65535",
            "users": ["proxy", "_apt"],
            "comment": "names",
        },
    ]

    text = render("base/nftables.conf.j2", {"rules": [], "outgoing": listed})
    lines = [line.strip() for line in text.partition("chain output")[2].splitlines()]

    assert "type filter hook output priority filter; policy drop;" in lines
    assert 'ip daddr { 10.0.0.5/32 } tcp dport 3128 accept comment "egress proxy"' in lines
    assert 'meta l4proto tcp counter reject with tcp reset comment "refused"' in lines
    assert (
        'meta skuid { proxy, _apt } ip daddr { 0.0.0.0/0 } tcp dport 1-65535 accept comment "names"' in lines
    )


def test_upgrades_take_the_security_archive_alone() -> None:
    text = render("base/apt-upgrades.conf.j2", {})

    assert text.count("origin=") == 1
    assert "label=Debian-Security" in text
    assert "#clear Unattended-Upgrade::Origins-Pattern;" in text


def test_a_locale_is_made_in_its_charset() -> None:
    assert "de_DE.UTF-8 UTF-8" in render("base/locale.gen.j2", {"locale": "de_DE.UTF-8"})
