"""Proof of the gateway: what people's browsers meet, and what nobody should."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# Runs on the gateway itself, so that the proof does not depend on where the controller stands.
_REQUEST = """
import http.client, json, socket, ssl, sys
ask = json.loads(sys.argv[1])
connection = http.client.HTTPConnection(ask["name"], timeout=20)
source = (ask["source"], 0) if ask["source"] else None
connection.sock = socket.create_connection((ask["address"], ask["port"]), 20, source)
try:
    if ask["authority"]:
        trust = ssl.create_default_context(cafile=ask["authority"])
        if ask["partial"]:
            trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if ask["old"]:
            trust.set_ciphers("DEFAULT@SECLEVEL=0")
            trust.minimum_version, trust.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        connection.sock = trust.wrap_socket(connection.sock, server_hostname=ask["name"])
    connection.request(ask["method"], ask["path"], headers={
        "User-Agent": "freehold-proof", **ask["headers"], **{f"X-Filler-{n}": "x" * 4000 for n in range(ask["filler"])}})
    answer = connection.getresponse()
    print(json.dumps({"status": answer.status, "headers": {name.lower(): text for name, text in answer.getheaders()},
                      "body": answer.read(200000).decode("utf-8", "replace")}))
except ssl.SSLError as error:
    print(json.dumps({"refused": str(error)}))
"""


@dataclass
class Gateway:
    """Asks the gateway by name."""

    machine: Machine
    address: str
    authority: str
    certificate: str = "internal"
    """Whose certificate the names have; the address has one of the authority in any case."""

    def get(
        self,
        name: str,
        path: str = "/",
        *,
        tls: bool = True,
        method: str = "GET",
        port: int = 0,
        source: str = "",
        old: bool = False,
        headers: dict[str, str] | None = None,
        filler: int = 0,
    ) -> dict[str, Any]:
        """Status, headers and body of an answer; ``refused`` where TLS did not come about.

        Args:
            name: Host name.
            path: Path with query.
            tls: Whether it is asked over TLS.
            method: Method of HTTP.
            port: Port, where it is none of 80 and 443.
            source: Address to ask from; the host's own when left out.
            old: Offer TLS 1.0 and 1.1 alone.
            headers: More headers.
            filler: How many headers of 4000 characters are sent besides.
        """
        given = self.certificate != "internal" and name != self.address
        authority = "/etc/caddy/certificate/chain.pem" if given else self.authority
        ask = {
            "source": source,
            "old": old,
            "partial": given,
            "headers": headers or {},
            "filler": filler,
            "name": name,
            "path": path,
            "method": method,
            "address": self.address,
            "port": port or (443 if tls else 80),
            "authority": authority if tls else None,
        }
        answer: dict[str, Any] = json.loads(
            self.machine.check_output("python3 -c %s %s", _REQUEST, json.dumps(ask))
        )
        return answer


@pytest.fixture
def gateway(host: Machine, this_host: Host, layout: Layout, service: ServicePlacement) -> Gateway:
    """It is trusted by the client's authority alone, as a browser with ca.crt does, or by the chain that it was given."""
    authority = f"/usr/local/share/ca-certificates/freehold-{layout.client}.crt"
    return Gateway(host, str(this_host.address), authority, service.variables["caddy_certificate"])


@pytest.fixture
def sites(layout: Layout) -> list[str]:
    return [layout.domain, *(route.fqdn for route in layout.routes)]


def test_runs_as_its_own_user(host: Machine) -> None:
    unit = host.service("caddy.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User caddy.service") == "caddy"


def test_every_name_has_a_certificate(gateway: Gateway, sites: list[str]) -> None:
    for name in sites:
        assert "refused" not in gateway.get(name), name


def test_other_names_get_no_certificate(gateway: Gateway) -> None:
    assert "refused" in gateway.get("elsewhere.example")


def test_every_site_sends_the_security_headers(gateway: Gateway, sites: list[str]) -> None:
    for name in sites:
        headers = gateway.get(name)["headers"]
        assert headers["strict-transport-security"].startswith("max-age="), name
        assert headers["x-content-type-options"] == "nosniff", name
        assert headers["x-frame-options"] == "SAMEORIGIN", name
        assert headers["referrer-policy"] == "same-origin", name
        assert headers["x-permitted-cross-domain-policies"] == "none", name
        assert "geolocation=()" in headers["permissions-policy"], name
        assert headers["cross-origin-opener-policy"].startswith("same-origin"), name
        assert "server" not in headers, name
        assert "alt-svc" not in headers, name


def test_old_versions_of_tls_are_refused(gateway: Gateway, sites: list[str]) -> None:
    """By the gateway: it answers the offer with an alert."""
    for name in sites:
        assert "alert protocol version" in gateway.get(name, old=True).get("refused", "").lower(), name


def test_too_many_headers_are_refused(gateway: Gateway, layout: Layout) -> None:
    answer = gateway.get(layout.domain, filler=40)

    assert answer["status"] == 431


def test_plain_http_leads_to_https(gateway: Gateway, sites: list[str]) -> None:
    for name in sites:
        answer = gateway.get(name, "/some/path?a=b", tls=False)
        assert answer["status"] == 308
        assert answer["headers"]["location"] == f"https://{name}/some/path?a=b"


def test_plain_http_knows_no_other_names(gateway: Gateway) -> None:
    assert gateway.get("elsewhere.example", tls=False)["status"] == 404


def test_every_application_answers_behind_its_name(gateway: Gateway, layout: Layout) -> None:
    for route in layout.routes:
        assert gateway.get(route.fqdn)["status"] < 500, route.fqdn


@pytest.fixture
def routes(service: ServicePlacement) -> list[dict[str, Any]]:
    """What the list of applications shows."""
    given = {"admin": False, "admin_paths": [], "open": []}
    return [given | route for route in service.variables["caddy_routes"]]


OUTSIDE = "127.0.0.1"
"""An address of this host that is in no network of administrators: from it, the gateway is asked as by anybody."""


def test_administrators_alone_reach_what_is_for_them(
    gateway: Gateway, routes: list[dict[str, Any]], service: ServicePlacement
) -> None:
    networks = [IPv4Network(network) for network in service.variables["caddy_admins"]]
    assert not any(IPv4Address(OUTSIDE) in network for network in networks)
    inside = any(IPv4Address(gateway.address) in network for network in networks)
    for route in routes:
        closed = ["/"] if route["admin"] else [path.replace("*", "x") for path in route["admin_paths"]]
        for path in closed:
            refused = gateway.get(route["fqdn"], path, source=OUTSIDE)
            assert refused["status"] == 403, (route["fqdn"], path)
            assert "This is for administrators" in refused["body"]
            assert refused["headers"]["x-content-type-options"] == "nosniff"
            if inside:
                assert gateway.get(route["fqdn"], path)["status"] != 403, (route["fqdn"], path)


def test_what_a_request_says_of_its_address_does_not_count(
    gateway: Gateway, routes: list[dict[str, Any]]
) -> None:
    said = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "Forwarded"), gateway.address)
    for route in routes:
        if route["admin"]:
            answer = gateway.get(route["fqdn"], source=OUTSIDE, headers=said)
            assert answer["status"] == 403, route["fqdn"]


def test_everybody_reaches_the_rest(gateway: Gateway, routes: list[dict[str, Any]]) -> None:
    for route in routes:
        paths = [path.replace("*", "x") for path in route["open"]] if route["admin"] else ["/"]
        for path in paths:
            answer = gateway.get(route["fqdn"], path, source=OUTSIDE)
            assert "This is for administrators" not in answer["body"], (route["fqdn"], path)


def test_the_domain_lists_every_application_with_its_state(
    gateway: Gateway, layout: Layout, routes: list[dict[str, Any]]
) -> None:
    page = gateway.get(layout.domain)

    assert page["status"] == 200
    assert page["headers"]["content-security-policy"].startswith("default-src 'none'")
    for route in routes:
        assert f'href="https://{route["fqdn"]}/"' in page["body"]
        if route.get("health"):
            state = gateway.get(layout.domain, f"/state/{route['service']}")["body"]
            assert state in {"up", "down"}
            assert f'data-state="{state}" data-service="{route["service"]}"' in page["body"]


def test_applications_that_work_are_shown_as_available(gateway: Gateway, layout: Layout) -> None:
    """What ``--only`` left out is not looked at."""
    waited = {route.service for route in layout.routes if route.health}
    deadline = time.monotonic() + 30  # the gateway asks every ten seconds
    while waited and time.monotonic() < deadline:
        waited = {name for name in waited if gateway.get(layout.domain, f"/state/{name}")["body"] != "up"}
        time.sleep(2 * bool(waited))

    assert waited == set()


def test_the_list_is_found_by_address_too(gateway: Gateway, layout: Layout) -> None:
    """Where names do not work yet, people still get the authority's certificate and see what there is."""
    by_address, by_name = (
        re.sub('data-state="(up|down)"|Available|Not available', "", gateway.get(name)["body"])
        for name in (gateway.address, layout.domain)
    )
    assert by_address == by_name
    # A certificate of another authority needs no trust in the client's own.
    assert ("/ca.crt" in by_name) is (gateway.certificate == "internal")


def test_states_can_be_read_and_nothing_else(
    gateway: Gateway, layout: Layout, routes: list[dict[str, Any]]
) -> None:
    for route in routes:
        if route.get("health"):
            path = f"/state/{route['service']}"
            assert gateway.get(layout.domain, path, method="POST")["status"] == 405
            assert gateway.get(layout.domain, f"{path}/x")["status"] == 404


def test_the_domain_serves_nothing_else(gateway: Gateway, layout: Layout) -> None:
    for path in (
        "/landing.html",
        "/unavailable.html",
        "/landing.css/../../Caddyfile",
        "/root.key",
        "/ca.crt/../root.key",
        "/%2e%2e/Caddyfile",
        "/Caddyfile",
        "/authority/gateway.key",
        "/metrics",
    ):
        assert gateway.get(layout.domain, path)["status"] in {308, 400, 404}, path


def test_metrics_of_applications_do_not_go_through_the_gateway(gateway: Gateway, layout: Layout) -> None:
    hidden = [(route.fqdn, path) for route in layout.routes for path in route.hidden]
    answers = {(name, path): gateway.get(name, path)["status"] for name, path in hidden}

    assert answers == dict.fromkeys(hidden, 404)


def test_metrics_have_a_port_of_their_own(
    gateway: Gateway, this_host: Host, service: ServicePlacement
) -> None:
    port = service.ports["metrics"]
    rules = [rule for rule in this_host.rules if rule.port == port]
    answer = gateway.get(gateway.address, "/metrics", tls=False, port=port)

    assert "caddy_http_request_duration_seconds" in answer["body"]
    assert gateway.get(gateway.address, "/debug/pprof/", tls=False, port=port)["status"] == 404
    assert {rule.comment for rule in rules} <= {"caddy metrics for prometheus"}


def test_the_authority_can_be_downloaded(gateway: Gateway, layout: Layout) -> None:
    answer = gateway.get(layout.domain, "/ca.crt")

    assert answer["status"] == 200
    assert answer["body"].strip() == (Path(layout.directory) / "ca.crt").read_text().strip()


def test_the_authoritys_key_is_private(host: Machine) -> None:
    key = host.file("/etc/caddy/authority/gateway.key")

    assert (key.user, key.group, key.mode) == ("root", "caddy", 0o440)
    assert host.file("/etc/caddy/authority").mode == 0o750
    assert host.file("/var/lib/caddy").mode == 0o700


def test_the_roots_key_is_not_on_the_gateway(host: Machine) -> None:
    """Whoever takes the gateway over can take its intermediate authority, and not the root that people trust."""
    places = "/etc/caddy /var/lib/caddy /var/lib/freehold /etc/freehold"
    keys = host.run(f"grep -rl 'PRIVATE KEY' {places} 2>/dev/null").stdout.split()
    given = "/etc/caddy/certificate/key.pem"
    others = [path for path in keys if not path.startswith("/var/lib/caddy/certificates/") and path != given]

    assert others == ["/etc/caddy/authority/gateway.key"]


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_the_admin_interface_is_no_port(host: Machine) -> None:
    assert not host.socket("tcp://127.0.0.1:2019").is_listening
    assert host.file("/run/caddy").mode == 0o700


def test_the_access_log_keeps_no_queries_and_no_headers(
    gateway: Gateway, host: Machine, layout: Layout
) -> None:
    gateway.get(layout.domain, "/proof-of-the-log?token=never-in-a-log")
    log = host.file("/var/log/caddy/access.log")

    assert "/proof-of-the-log" in log.content_string
    assert "never-in-a-log" not in log.content_string
    assert "freehold-proof" not in log.content_string


def test_the_access_log_keeps_no_paths_that_are_secrets(
    gateway: Gateway, host: Machine, layout: Layout
) -> None:
    for path in ("/webhook/never-in-a-log", "/form/never-in-a-log", "/s/never-in-a-log?x=y"):
        gateway.get(layout.domain, path)
    log = host.file("/var/log/caddy/access.log")

    assert '"/webhook/"' in log.content_string
    assert "never-in-a-log" not in log.content_string
    assert log.mode == 0o640


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 caddy.service")

    assert result.rc == 0, result.stdout
