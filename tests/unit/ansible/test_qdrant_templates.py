"""What the files of Qdrant hold, a cluster's among them: the lab runs one server alone."""

from __future__ import annotations

from typing import Any

import yaml

from freehold import render, resources


def rendered(template: str, **others: Any) -> str:
    defaults = yaml.safe_load((resources.roles() / "qdrant/defaults/main.yml").read_text(encoding="utf-8"))
    given = {**defaults, **{f"qdrant_{name}": value for name, value in others.items()}}
    return render.render(f"qdrant/{template}.j2", given)


def command(**others: Any) -> list[str]:
    unit = rendered("qdrant.service", **others)
    return next(line for line in unit.splitlines() if line.startswith("ExecStart=")).split()[1:]


def test_one_server_is_no_cluster() -> None:
    config = yaml.safe_load(rendered("config.yaml"))

    assert config["cluster"] == {"enabled": False}
    assert config["storage"]["collection"]["replication_factor"] == 1
    assert "audit" not in config
    assert command() == ["--config-path", "/etc/qdrant/config.yaml"]


def test_the_server_reaches_out_to_nobody_and_no_page_reaches_it() -> None:
    config = yaml.safe_load(rendered("config.yaml"))

    assert config["telemetry_disabled"] is True
    assert config["service"]["enable_tls"] is True
    for key in ("enable_cors", "enable_static_content", "enable_snapshot_url_recovery"):
        assert config["service"][key] is False


def test_servers_of_a_cluster_join_the_first_over_tls() -> None:
    first = {"cluster_uri": "https://10.20.0.175:6335", "replicas": 2}
    second = {
        "cluster_uri": "https://10.20.0.176:6335",
        "cluster_bootstrap": first["cluster_uri"],
        "replicas": 2,
    }
    config = yaml.safe_load(rendered("config.yaml", **second))

    assert config["cluster"] == {"enabled": True, "p2p": {"port": 6335, "enable_tls": True}}
    assert config["tls"]["ca_cert"] == "/etc/ssl/certs/ca-certificates.crt"
    assert config["storage"]["collection"]["replication_factor"] == 2
    assert command(**first)[2:] == ["--uri", "https://10.20.0.175:6335"]
    assert command(**second)[2:] == [
        "--uri",
        "https://10.20.0.176:6335",
        "--bootstrap",
        "https://10.20.0.175:6335",
    ]


def test_requests_are_recorded_when_asked_for() -> None:
    config = yaml.safe_load(rendered("config.yaml", audit=True, audit_days=90))

    assert config["audit"] == {
        "enabled": True,
        "dir": "/var/lib/qdrant/audit",
        "rotation": "daily",
        "max_log_files": 90,
    }


def test_the_scripts_of_snapshots_are_valid() -> None:
    script = rendered("snapshot.py", snapshot_keep=5)

    compile(script, "snapshot.py", "exec")
    assert 'KEEP = "127.0.0.1", 5' in script
    assert 'freehold_backup_timestamp_seconds{service="qdrant"} %s' in rendered("snapshot-done.sh")
