"""Which driver a kernel needs: the table, and that the lock stands above it."""

from __future__ import annotations

import pytest

from freehold.catalog import drivers, versions


@pytest.mark.parametrize(
    ("kernel", "driver"),
    [
        ("6.8.12-4-pve", "550"),
        ("6.14.11-2-pve", "550"),
        ("6.17.2-1-pve", "580.105.08"),
        ("7.0.14-6-pve", "580.142"),
        ("6.2.16-3-pve", "535"),
        ("7.1.0-1-pve", "580.159.04"),
    ],
)
def test_a_kernel_has_a_floor(kernel: str, driver: str) -> None:
    found = drivers.floor(kernel)
    assert found is not None
    assert found.driver == driver


def test_of_kernels_outside_the_table_nothing_is_claimed() -> None:
    assert drivers.floor("5.15.107-2-pve") is None
    assert drivers.known("7.1.9-1-pve")
    assert not drivers.known("7.2.0-1-pve")


def test_versions_are_numbers_and_no_text() -> None:
    assert drivers.number("580.105.08") < drivers.number("580.126.09") < drivers.number("580.178.04")
    assert drivers.number("6.9.1-1-pve") < drivers.number("6.17.2-1-pve")
    assert drivers.number("550.163.01") >= drivers.number("550")


def test_rows_are_sorted_and_each_names_its_source() -> None:
    rows = drivers.load().floors
    assert list(rows) == sorted(rows, key=lambda row: drivers.number(row.kernel), reverse=True)
    assert all(len(row.source) > 20 for row in rows)


def test_the_locked_driver_builds_for_every_kernel_of_the_table() -> None:
    """A lock below the floor of a kernel that Proxmox VE boots would break every node at its next update."""
    locked = drivers.number(versions.load()["nvidia-driver"].version)
    assert all(locked >= drivers.number(row.driver) for row in drivers.load().floors)
    assert versions.load()["nvidia-driver"].pinned
