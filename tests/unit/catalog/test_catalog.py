"""What roles say of their services, for the roles of this repository and for wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog import services as catalog
from freehold.catalog import versions
from freehold.errors import FreeholdError
from freehold.layout import placement, settings

KNOWN = catalog.load()
GROUPS = {"users", "admins", "dependents", "hosts"}

GOOD: dict[str, Any] = {
    "name": "good",
    "title": "Good",
    "slot": 1,
    "os": "debian-12",
    "resources": {"cores": 1, "memory": 512, "disk": 4},
}


def write(roles: Path, folder: str, **changes: Any) -> None:
    meta = roles / folder / "meta"
    meta.mkdir(parents=True)
    (meta / "service.yml").write_text(yaml.safe_dump(GOOD | changes))


def test_there_are_services() -> None:
    assert {"caddy", "postgres", "openwebui", "vllm"} <= set(KNOWN)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_role_names_only_what_exists(name: str) -> None:
    meta = KNOWN[name]
    assert set(meta.needs) <= set(KNOWN)
    assert set(meta.wants) <= set(KNOWN)
    for port in meta.ports.values():
        assert set(port.sources) <= set(KNOWN) | GROUPS
    assert all(route.port in meta.ports for route in meta.routes)
    assert meta.health is None or meta.health.port in meta.ports
    assert all(database.password in meta.secrets for database in meta.databases)
    assert not meta.engine or "http" in meta.ports
    assert all(bucket.access_key in meta.secrets for bucket in meta.buckets)
    assert all(bucket.secret_key in meta.secrets for bucket in meta.buckets)
    for metrics in meta.metrics:
        assert metrics.port in meta.ports
        assert {metrics.password, metrics.bearer} - {None} <= set(meta.secrets)
    assert len({alert.name for alert in meta.alerts}) == len(meta.alerts)
    assert meta.artifacts, "say what is installed, under which licence"
    assert set(meta.artifacts) <= set(versions.load()), "write them into versions.yml"


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_role_has_an_option_for_each_computed_variable(name: str) -> None:
    options = catalog.argument_specs(name)
    assert all(option.startswith(f"{name.replace('-', '_')}_") for option in options)
    assert set(KNOWN[name].variables) <= set(settings.short_options(name, options))


def test_all_services_have_a_start_order() -> None:
    orders = placement.start_orders(KNOWN)
    assert set(orders) == set(KNOWN)
    assert max(orders, key=lambda name: orders[name]) == placement.GATEWAY


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"slot": 100}, "slot"),
        ({"unknown": 1}, "unknown"),
        ({"os": "debian-11"}, "os"),
        ({"name": "other"}, "not that of the role's folder"),
        ({"ports": {"http": {"port": 70000}}}, "port"),
    ],
)
def test_wrong_service_names_its_file(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write(tmp_path, "good", **changes)
    with pytest.raises(FreeholdError) as caught:
        catalog.load(tmp_path)
    assert caught.value.where == str(tmp_path / "good/meta/service.yml")
    assert reason in (caught.value.answer or "")


def test_no_yaml_names_its_file(tmp_path: Path) -> None:
    write(tmp_path, "good")
    (tmp_path / "good/meta/service.yml").write_text("a: [\n")
    with pytest.raises(FreeholdError, match=r"service\.yml does not describe a service"):
        catalog.load(tmp_path)


def test_shared_slot_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "good")
    write(tmp_path, "other", name="other")
    with pytest.raises(FreeholdError) as caught:
        catalog.load(tmp_path)
    assert 'the slot 1 is that of the service "good" too' in (caught.value.answer or "")


def test_missing_argument_specs_name_the_file(tmp_path: Path) -> None:
    write(tmp_path, "good")
    with pytest.raises(FreeholdError, match=r"argument_specs\.yml does not list the options"):
        catalog.argument_specs("good", tmp_path)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "good", needs=["other"])
    write(tmp_path, "other", name="other", slot=2, wants=["good"])
    with pytest.raises(FreeholdError, match="in a circle: "):
        placement.start_orders(catalog.load(tmp_path))
