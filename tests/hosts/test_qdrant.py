"""Proof of the vector store: who gets in, over what, what it finds, and that it can be brought back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, ServicePlacement

COLLECTION = "freehold-proof"

# Runs on the host itself, where root can read the keys: so they are in no command line. The certificate is checked
# against what the host trusts, which is the client's own authority.
_ASK = """
import http.client, json, ssl, sys
ask = json.loads(sys.argv[1])
keys = dict(line.strip().split("=", 1) for line in open("/etc/qdrant/secrets.env") if "=" in line)
key = {"all": keys["QDRANT__SERVICE__API_KEY"], "read": keys["QDRANT__SERVICE__READ_ONLY_API_KEY"]}.get(ask["key"], ask["key"])
connection = http.client.HTTPSConnection(ask["address"], 6333, timeout=60, context=ssl.create_default_context())
headers = {"Content-Type": "application/json", "Origin": "https://elsewhere.example"} | ({"api-key": key} if key else {})
connection.request(ask["method"], ask["path"], json.dumps(ask["body"]) if ask["body"] is not None else None, headers)
answer = connection.getresponse()
text = answer.read().decode("utf-8", "replace")
print(json.dumps({"status": answer.status, "headers": {name.lower(): value for name, value in answer.getheaders()},
                  "body": json.loads(text) if text[:1] in "[{" and text else text}))
"""


@dataclass
class Store:
    """Asks the vector store."""

    machine: Machine
    address: str

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "all") -> dict[str, Any]:
        """Status, headers and body of an answer; ``key`` is ``all``, ``read``, empty, or another one."""
        question = {"address": self.address, "method": method, "path": path, "body": body, "key": key}
        answer: dict[str, Any] = json.loads(
            self.machine.check_output("python3 -c %s %s", _ASK, json.dumps(question))
        )
        return answer

    def result(self, method: str, path: str, body: Any = None) -> Any:
        """The result of a request that succeeds."""
        answer = self.ask(method, path, body)
        assert answer["status"] == 200, answer
        return answer["body"]["result"]


@pytest.fixture
def store(host: Machine, this_host: Host) -> Store:
    return Store(host, str(this_host.address))


@pytest.fixture
def collection(store: Store) -> Iterator[str]:
    """A small collection, with three documents of two owners, that is gone afterwards."""
    path = f"/collections/{COLLECTION}"
    store.ask("DELETE", path)  # left by a proof that was cut off
    store.result("PUT", path, {"vectors": {"size": 3, "distance": "Cosine"}})
    store.result("PUT", f"{path}/index?wait=true", {"field_name": "owner", "field_schema": "keyword"})
    points = [
        {"id": 1, "vector": [1, 0, 0], "payload": {"owner": "ada", "text": "contract"}},
        {"id": 2, "vector": [0, 1, 0], "payload": {"owner": "ada", "text": "invoice"}},
        {"id": 3, "vector": [0.9, 0.1, 0], "payload": {"owner": "ben", "text": "contract of another"}},
    ]
    store.result("PUT", f"{path}/points?wait=true", {"points": points})
    yield path
    for snapshot in store.result("GET", f"{path}/snapshots"):
        store.result("DELETE", f"{path}/snapshots/{snapshot['name']}")
    store.result("DELETE", path)


def test_runs_as_its_own_user(host: Machine) -> None:
    unit = host.service("qdrant.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User qdrant.service") == "qdrant"


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_the_certificate_is_the_clients_and_names_the_address(store: Store) -> None:
    assert store.ask("GET", "/readyz", key="")["status"] == 200


def test_plain_http_is_not_answered(host: Machine, this_host: Host) -> None:
    knock = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], 6333), 5); "
        "s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); s.settimeout(5); print(s.recv(64)[:5])"
    )

    answer = host.run("python3 -c %s %s", knock, str(this_host.address))
    assert "HTTP/" not in answer.stdout or "400" in answer.stdout


def test_callers_without_a_key_are_refused(store: Store) -> None:
    for path in ("/collections", "/metrics", "/telemetry", f"/collections/{COLLECTION}"):
        assert store.ask("GET", path, key="")["status"] == 401, path
        assert store.ask("GET", path, key="x" * 48)["status"] in {401, 403}, path


def test_the_key_for_reading_reads_and_does_not_write(store: Store, collection: str) -> None:
    query = {"query": [1, 0, 0], "limit": 1}
    point = {"points": [{"id": 9, "vector": [1, 1, 1]}]}

    assert store.ask("GET", "/collections", key="read")["status"] == 200
    assert store.ask("POST", f"{collection}/points/query", query, key="read")["status"] == 200
    assert store.ask("PUT", f"{collection}/points", point, key="read")["status"] == 403
    assert store.ask("DELETE", collection, key="read")["status"] == 403
    assert store.result("POST", f"{collection}/points/count", {"exact": True})["count"] == 3


def test_web_pages_are_told_nothing(store: Store) -> None:
    headers = store.ask("GET", "/collections")["headers"]

    assert not [name for name in headers if name.startswith("access-control-")]


def test_it_tells_nobody_about_its_use(host: Machine) -> None:
    command = host.check_output("tr '\\0' ' ' </proc/$(systemctl show -P MainPID qdrant.service)/cmdline")
    process = f"pid={host.check_output('systemctl show -P MainPID qdrant.service')},"
    connections = [
        line.split()[2:4]
        for line in host.check_output("ss -Htnp state established").splitlines()
        if process in line
    ]
    outward = [(near, far) for near, far in connections if near.rsplit(":", 1)[-1] not in {"6333", "6334"}]

    assert "--config-path /etc/qdrant/config.yaml" in command
    assert "telemetry_disabled: true" in host.file("/etc/qdrant/config.yaml").content_string.splitlines()
    assert outward == []


def test_what_was_stored_is_found_by_likeness_and_owner(store: Store, collection: str) -> None:
    owner = {"must": [{"key": "owner", "match": {"value": "ada"}}]}
    found = store.result(
        "POST",
        f"{collection}/points/query",
        {"query": [1, 0, 0], "limit": 5, "filter": owner, "with_payload": True},
    )["points"]

    assert [point["payload"]["text"] for point in found] == ["contract", "invoice"]
    assert found[0]["score"] > 0.99


def test_a_collection_comes_back_from_its_snapshot(host: Machine, store: Store, collection: str) -> None:
    host.check_output("set -a; . /etc/qdrant/secrets.env; python3 /etc/qdrant/snapshot.py %s", COLLECTION)
    snapshots = store.result("GET", f"{collection}/snapshots")
    assert len(snapshots) == 1
    assert snapshots[0]["size"] > 0

    store.result("POST", f"{collection}/points/delete?wait=true", {"points": [1, 2]})
    assert store.result("POST", f"{collection}/points/count", {"exact": True})["count"] == 1
    file = f"file:///var/lib/qdrant/snapshots/{COLLECTION}/{snapshots[0]['name']}"
    store.result("PUT", f"{collection}/snapshots/recover?wait=true", {"location": file})
    assert store.result("POST", f"{collection}/points/count", {"exact": True})["count"] == 3


def test_old_snapshots_go(host: Machine, store: Store, collection: str, service: ServicePlacement) -> None:
    keep = service.variables.get("qdrant_snapshot_keep", 3)
    for _ in range(keep + 1):
        host.check_output("set -a; . /etc/qdrant/secrets.env; python3 /etc/qdrant/snapshot.py %s", COLLECTION)
        host.check_output("sleep 1.1")  # names and ages are in seconds

    assert len(store.result("GET", f"{collection}/snapshots")) == keep


def test_every_night_has_its_snapshots(host: Machine) -> None:
    if not host.check_output("systemctl show -P ExecMainExitTimestamp qdrant-snapshot.service"):
        host.run("systemctl start qdrant-snapshot.service")  # the first night is yet to come

    assert host.service("qdrant-snapshot.timer").is_running
    assert host.service("qdrant-snapshot.timer").is_enabled
    log = host.run("journalctl -u qdrant-snapshot.service -n 20 --no-pager").stdout
    assert host.check_output("systemctl show -P Result qdrant-snapshot.service") == "success", log


def test_the_monitoring_knows_when_the_last_snapshots_were_taken(
    age_of_backup: Callable[[str], float | None],
) -> None:
    age = age_of_backup("qdrant-snapshot.service")

    assert age is None or age < 2 * 86400


def test_snapshots_are_not_fetched_from_addresses(store: Store, collection: str) -> None:
    location = {"location": "http://127.0.0.1:6333/collections/x/snapshots/y.snapshot"}
    answer = store.ask("PUT", f"{collection}/snapshots/recover?wait=true", location)

    assert answer["status"] in {400, 403}, answer
    assert store.result("POST", f"{collection}/points/count", {"exact": True})["count"] == 3


def test_figures_are_for_those_with_a_key(store: Store) -> None:
    text = store.ask("GET", "/metrics", key="read")["body"]

    assert 'app_info{name="qdrant"' in text
    assert "collections_total" in text


def test_keys_and_data_are_private(host: Machine) -> None:
    secrets = host.file("/etc/qdrant/secrets.env")
    certificate = host.file("/etc/qdrant/tls.pem")
    data = host.file("/var/lib/qdrant")

    assert (secrets.user, secrets.mode) == ("root", 0o400)
    assert (certificate.user, certificate.group, certificate.mode) == ("root", "qdrant", 0o440)
    assert (data.user, data.mode) == ("qdrant", 0o700)


def test_the_units_are_hardened(host: Machine) -> None:
    for unit in ("qdrant.service", "qdrant-snapshot.service"):
        result = host.run("systemd-analyze security --no-pager --threshold=25 %s", unit)

        assert result.rc == 0, result.stdout
