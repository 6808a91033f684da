"""Every port that a service opens is knocked at by the port audit (``tests/lab/port_audit.yml``), or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from freehold.catalog import services

TRIES = yaml.safe_load((Path(__file__).parents[1] / "lab/port_audit.yml").read_text(encoding="utf-8"))
KNOWN = services.load()


@pytest.mark.parametrize("role", sorted(KNOWN))
def test_every_port_of_a_service_is_knocked_at(role: str) -> None:
    ports = KNOWN[role].ports
    assert set(TRIES.get(role, {})) == set(ports)
    for port in ports:
        how = TRIES[role][port]
        assert how.get("not") or how["tries"] or how["open"], f"{role}: {port}"
        assert all(why for why in (how.get("open") or {}).values())


def test_no_door_is_knocked_at_that_is_not_there() -> None:
    assert set(TRIES) <= set(KNOWN)
