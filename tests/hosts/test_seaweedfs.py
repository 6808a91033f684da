"""Proof of the object storage: what a key opens, what nobody opens, and that old objects go."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# A client of the S3 API on the host itself; what it is to do comes as JSON on standard input, since a key in an argument
# would stand in the process list.
_CLIENT = """
import io, json, sys, minio, urllib3
from minio.deleteobjects import DeleteObject
given = json.load(sys.stdin)
def client(key):
    return minio.Minio(given["endpoint"], access_key=key[0] if key else None, secret_key=key[1] if key else None,
                       secure=False, region="us-east-1", http_client=urllib3.PoolManager(retries=False, timeout=30))
def code(step):
    try:
        return step() or "OK"
    except minio.error.S3Error as error:
        return error.code
"""

_USE = (
    _CLIENT
    + """
own, bucket, other = client(given["key"]), given["bucket"], given["other"]
large = bytes(6 << 20)
name = "freehold-proof/object"
found = {
    "put": code(lambda: own.put_object(bucket, name, io.BytesIO(b"here"), 4) and None),
    "get": own.get_object(bucket, name).data.decode(),
    "list": [o.object_name for o in own.list_objects(bucket, prefix="freehold-proof/", recursive=True)],
    "multipart": code(lambda: own.put_object(bucket, name + "-large", io.BytesIO(large), -1, part_size=5 << 20) and None),
    "size": own.stat_object(bucket, name + "-large").size,
    "signed": urllib3.request("GET", own.presigned_get_object(bucket, name)).data.decode(),
    "unsigned": urllib3.request("GET", f"http://{given['endpoint']}/{bucket}/{name}").status,
    "make": code(lambda: own.make_bucket("freehold-proof-evil")),
    "wrong": code(lambda: client([given["key"][0], "wrong"]).stat_object(bucket, name)),
}
if other:
    found["other"] = [
        code(lambda: own.put_object(other, name, io.BytesIO(b"x"), 1) and None),
        code(lambda: list(own.list_objects(other)) and None),
    ]
found["left"] = [str(error) for error in own.remove_objects(bucket, [DeleteObject(name), DeleteObject(name + "-large")])]
print(json.dumps(found))
"""
)

_EXPIRE = (
    _CLIENT
    + """
import datetime, subprocess
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
admin, bucket = client(given["key"]), "freehold-proof"
if not admin.bucket_exists(bucket):
    admin.make_bucket(bucket)
try:
    for name in ("old/object", "kept/object"):
        admin.put_object(bucket, name, io.BytesIO(b"here"), 4)
    past = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    rule = Rule(ENABLED, Filter(prefix="old/"), rule_id="proof", expiration=Expiration(date=past))
    admin.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
    subprocess.run(["systemctl", "start", "seaweedfs-expire.service"], check=True, timeout=300)
    print(json.dumps([o.object_name for o in admin.list_objects(bucket, recursive=True)]))
finally:
    for each in admin.list_objects(bucket, recursive=True):
        admin.remove_object(bucket, each.object_name)
    admin.remove_bucket(bucket)
"""
)

_RULES = (
    _CLIENT
    + """
admin = client(given["key"])
found = {}
for each in admin.list_buckets():
    rules = admin.get_bucket_lifecycle(each.name)
    found[each.name] = [rule.expiration.days for rule in rules.rules if rule.rule_id == "freehold-retention"] if rules else []
print(json.dumps(found))
"""
)


def _ask(host: Machine, script: str, **given: Any) -> Any:
    text = host.check_output("printf '%%s' %s | /opt/seaweedfs/bin/python -c %s", json.dumps(given), script)
    return json.loads(text.splitlines()[-1])


@pytest.fixture
def endpoint(this_host: Host, service: ServicePlacement) -> str:
    return f"{this_host.address}:{service.ports['s3']}"


@pytest.fixture
def admin(secret: Callable[[str], str]) -> list[str]:
    return [secret("seaweedfs.admin_access_key"), secret("seaweedfs.admin_secret_key")]


@pytest.fixture
def buckets(service: ServicePlacement, secret: Callable[[str], str]) -> list[dict[str, Any]]:
    """The buckets of the stack, with their keys."""
    return [
        {**bucket, "key": [secret(bucket[part].split("'")[3]) for part in ("access_key", "secret_key")]}
        for bucket in service.variables["seaweedfs_buckets"]
    ]


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    unit = host.service("seaweedfs.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.service("seaweedfs-expire.timer").is_running
    assert host.check_output("systemctl show -P User seaweedfs.service") == "seaweedfs"
    assert host.check_output("systemctl show -P NRestarts seaweedfs.service") == "0"
    assert host.file("/var/lib/seaweedfs").mode == 0o750


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_tells_nobody(host: Machine) -> None:
    process = host.check_output("systemctl show -P MainPID seaweedfs.service")
    command = host.check_output("tr '\\0' ' ' < /proc/%s/cmdline", process)

    assert "-master.telemetry=false" in command
    assert "-s3.iam=false" in command
    assert "-s3.autoCreateBucket=false" in command


def test_a_key_opens_its_own_bucket_and_no_other(
    host: Machine, endpoint: str, buckets: list[dict[str, Any]]
) -> None:
    for bucket in buckets:
        others = [other["name"] for other in buckets if other["key"] != bucket["key"]]
        found = _ask(
            host,
            _USE,
            endpoint=endpoint,
            key=bucket["key"],
            bucket=bucket["name"],
            other=others[0] if others else None,
        )
        assert found["put"] == found["multipart"] == "OK"
        assert found["get"] == found["signed"] == "here"
        assert found["list"] == ["freehold-proof/object"]
        assert found["size"] == 6 << 20
        assert found["unsigned"] == 403
        assert found["make"] == "AccessDenied"
        assert found["wrong"] in {"SignatureDoesNotMatch", "AccessDenied"}
        assert set(found.get("other", ["AccessDenied"])) == {"AccessDenied"}
        assert found["left"] == []


def test_nobody_gets_in_without_a_key(host: Machine, endpoint: str) -> None:
    ask = "import sys, urllib.request as r\ntry: print(r.urlopen(sys.argv[1], timeout=10).status)\nexcept OSError as e: print(e.code)"

    assert host.check_output("python3 -c %s %s", ask, f"http://{endpoint}/") == "403"


def test_buckets_are_there_and_say_how_long_objects_live(
    host: Machine, endpoint: str, admin: list[str], buckets: list[dict[str, Any]]
) -> None:
    found = _ask(host, _RULES, endpoint=endpoint, key=admin)

    for bucket in buckets:
        days = bucket["expire_days"]
        assert found[bucket["name"]] == ([days] if days else []), bucket["name"]


def test_what_is_too_old_is_removed(host: Machine, endpoint: str, admin: list[str]) -> None:
    assert _ask(host, _EXPIRE, endpoint=endpoint, key=admin) == ["kept/object"]


def test_keys_lie_where_root_alone_reads_them(
    host: Machine, admin: list[str], buckets: list[dict[str, Any]]
) -> None:
    file = host.file("/etc/seaweedfs/s3.json")
    processes = host.check_output("ps -eo args")
    log = host.check_output("journalctl --no-pager -u seaweedfs.service")
    secrets = [admin[1], *(bucket["key"][1] for bucket in buckets)]

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    assert not [secret for secret in secrets if secret in processes or secret in log]


def test_only_dependents_and_prometheus_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    buckets: list[dict[str, Any]],
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    hosts = {placed.name: placed.host for placed in layout.services}
    owners = {hosts[bucket["owner_service"]] for bucket in buckets if bucket["owner_service"] in hosts}

    assert reaching(service.address, service.ports["s3"]) - {this_host.name} == owners
    prometheus = {hosts["prometheus"]} if "prometheus" in hosts else set()
    assert reaching(service.address, service.ports["metrics"]) - {this_host.name} == prometheus


def test_metrics_tell_the_state(host: Machine, this_host: Host) -> None:
    fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"
    text = host.check_output("python3 -c %s %s", fetch, f"http://{this_host.address}:9327/metrics")

    assert "SeaweedFS_volumeServer_max_volumes" in text


@pytest.mark.parametrize("unit", ["seaweedfs.service", "seaweedfs-s3.service", "seaweedfs-expire.service"])
def test_the_units_are_hardened(host: Machine, unit: str) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 %s", unit)

    assert result.rc == 0, result.stdout
