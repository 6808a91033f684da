"""The NVIDIA driver of nodes: what ``check`` says, and the order of an upgrade, on a machine that exists in memory only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog import versions
from freehold.catalog.drivers import ARTIFACT
from freehold.errors import BadInputError, ExitCode
from freehold.events import Event
from freehold.nvidia import Claim, Guest, NodeDriver, Release
from freehold.run import driver, driver_upgrade, up
from freehold.run.context import Client
from freehold.run.finding import Finding

from .conftest import Open

LOCKED = versions.load()[ARTIFACT].version
KERNEL = "6.17.2-1-pve"
NEW = Release.model_validate(versions.artifact(ARTIFACT))
OLD = Release(version="580.126.18", url="https://example.org/old.run", sha256="1" * 64)
BARE = NodeDriver(KERNEL, KERNEL, secure_boot=False, headers=frozenset({KERNEL}))
READY = replace(BARE, installed=LOCKED, loaded=LOCKED, modules={KERNEL: LOCKED}, cache=(OLD, NEW))
BEFORE = replace(BARE, installed=OLD.version, loaded=OLD.version, modules={KERNEL: OLD.version}, cache=(OLD,))

Gpu = Callable[..., Client]


@pytest.fixture
def gpu(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Opens the client with a GPU of the node ``pve`` in its host ``ollama``."""

    def open_gpu(**node: Any) -> Client:
        settings = {"address": "192.0.2.1", "gpus": [{"pci": "0000:01:00.0", "card": "rtx-4090"}], **node}
        client = open_client(
            services={"caddy": None, "postgres": None, "litellm": None, "ollama": None},
            nodes={"pve": settings},
            hosts={"ollama": {"gpus": [0]}},
        )
        client.ensure_secrets()
        return client

    monkeypatch.setattr(driver, "_marker", lambda client, host: LOCKED)
    return open_gpu


def says(client: Client, state: NodeDriver, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setattr(driver, "look", lambda client, node: state)
    (node,) = (each for each in client.layout.nodes if each.name == "pve")
    return list(driver.findings(client, node))


def test_a_run_of_hosts_without_gpus_leaves_the_driver_alone(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = gpu()
    client.only = "postgres"
    client.lay_out_again()

    assert driver.nodes(client) == []
    assert says(client, BARE, monkeypatch) == []


@pytest.mark.parametrize(
    ("state", "status", "detail", "remedy"),
    [
        (BARE, "ok", f"{LOCKED} is going to be installed", ""),
        (READY, "ok", f"{LOCKED}, kernel {KERNEL}", ""),
        (
            BEFORE,
            "warning",
            f"has {OLD.version}, the lock names {LOCKED}; containers get",
            "driver upgrade acme",
        ),
        (replace(BEFORE, cache=()), "problem", "no checksum is known", "driver upgrade acme"),
        (replace(READY, loaded=OLD.version), "warning", "waits for a reboot", "--reboot"),
        (replace(BARE, flags=frozenset({"nouveau"})), "warning", "nouveau", "--reboot"),
        (replace(READY, unfinished=LOCKED, loaded=None), "ok", "is going to be installed", ""),
    ],
)
def test_check_says_what_a_managed_node_has(
    gpu: Gpu,
    monkeypatch: pytest.MonkeyPatch,
    state: NodeDriver,
    status: str,
    detail: str,
    remedy: str,
) -> None:
    (finding,) = says(gpu(), state, monkeypatch)

    assert (finding.about, finding.status) == ("NVIDIA driver of pve", status)
    assert detail in finding.detail
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("state", "status", "detail"),
    [
        (BARE, "warning", "its administrator takes care"),
        (replace(BEFORE, cache=()), "warning", "no checksum is known"),
        (replace(READY, cache=()), "ok", LOCKED),
    ],
)
def test_check_says_what_a_node_of_an_administrator_has(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, state: NodeDriver, status: str, detail: str
) -> None:
    (finding,) = says(gpu(driver="administrator"), state, monkeypatch)

    assert finding.status == status
    assert detail in finding.detail
    if "checksum" in detail:
        assert "versions.yml (nvidia-driver with version 580.126.18" in finding.remedy


def test_a_kernel_without_the_driver_is_said_before_the_reboot(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, finding = says(gpu(), replace(READY, next_boot="7.0.2-6-pve"), monkeypatch)

    assert finding.status == "warning"
    assert "would come back without GPUs" in finding.detail
    assert finding.remedy == "Before the next reboot, run: freehold up acme"


def test_secure_boot_stops_a_managed_node_and_warns_for_others(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = replace(READY, secure_boot=True, key_enrolled=False)

    assert says(gpu(), state, monkeypatch)[0].status == "problem"
    assert says(gpu(driver="administrator"), state, monkeypatch)[0].status == "warning"


def test_a_client_without_nvidia_gpus_is_asked_nothing(client: Client) -> None:
    assert driver.nodes(client) == []
    assert driver.user_space(client) == {}
    assert driver.status(client) == []
    assert all(not list(driver.findings(client, node)) for node in client.layout.nodes)


def test_containers_get_what_is_loaded_and_not_what_is_locked(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = gpu()
    for state, release in [(READY, {"pve": NEW}), (BEFORE, {"pve": OLD}), (BARE, {})]:
        monkeypatch.setattr(driver, "look", lambda client, node, state=state: state)
        assert driver.user_space(client) == release


def test_a_clients_own_lock_leads(gpu: Gpu) -> None:
    client = gpu()
    own = {ARTIFACT: {"version": OLD.version, "url": OLD.url, "sha256": OLD.sha256}}
    (client.directory / versions.OVERLAY).write_text(yaml.safe_dump(own))

    assert driver.wanted(client) == OLD


# --- upgrade ----------------------------------------------------------------------------------------------------------


class MachineInMemory:
    """A stand-in of a node: what an installation, a reboot and a fault do to what the node says of itself."""

    def __init__(self, state: NodeDriver) -> None:
        self.state = state
        self.done: list[str] = []
        self.breaks_at: str | None = None

    def _at(self, step: str) -> None:
        if step == self.breaks_at:
            self.breaks_at = None
            raise KeyboardInterrupt
        self.done.append(step)

    def look(self, client: Client, node: Any) -> NodeDriver:
        return self.state

    def stop(self, run: Any, node: Any, vmid: int, words: str) -> None:
        self._at(f"stop {words}")

    def install(self, run: Any, node: Any, release: Release | None, *, replace: bool) -> None:
        wanted = release or NEW
        state = self.state
        if state.loaded is None and "nouveau" in state.flags:
            self._at("blacklist")
            return
        if state.settled is not None and not replace:
            return
        if state.settled != wanted.version:
            self.state = self._with(unfinished=wanted.version)
            self._at(f"install {wanted.version}")
            cache = {each.version: each for each in (*state.cache, wanted)}
            self.state = self._with(
                installed=wanted.version,
                unfinished=None,
                modules={KERNEL: wanted.version},
                cache=tuple(cache.values()),
            )
        if self.state.loaded is None:
            self.state = self._with(loaded=wanted.version)

    def boot(self, run: Any = None, node: Any = None) -> None:
        self._at("boot")
        self.state = self._with(loaded=self.state.installed, flags=self.state.flags - {"nouveau"})

    def up(self, client: Client, sink: Any, options: Any = None) -> str:
        self._at(f"up {client.stack.client}")
        return client.stack.client

    def _with(self, **parts: Any) -> NodeDriver:
        return replace(self.state, **parts)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> MachineInMemory:
    made = MachineInMemory(BEFORE)
    monkeypatch.setattr(driver, "look", made.look)
    monkeypatch.setattr(driver, "install", made.install)
    monkeypatch.setattr(driver_upgrade, "_stop", made.stop)
    monkeypatch.setattr(driver_upgrade, "_reboot", made.boot)
    monkeypatch.setattr(up, "up", made.up)
    return made


def quiet(event: Event) -> None:
    """A sink."""


STEPS = ["stop ollama of acme", f"install {LOCKED}"]


def test_an_upgrade_stops_for_the_reboot_and_goes_on_after_it(gpu: Gpu, machine: MachineInMemory) -> None:
    client = gpu()

    with pytest.raises(driver.RebootNeededError) as caught:
        driver_upgrade.upgrade(client, quiet)

    assert machine.done == STEPS
    assert "must be rebooted" in caught.value.message
    assert "same command again" in str(caught.value.remedy)
    assert caught.value.exit_code is ExitCode.FAILED
    # still not rebooted: the same stop, and nothing is installed twice
    with pytest.raises(driver.RebootNeededError):
        driver_upgrade.upgrade(client, quiet)
    assert machine.done == [*STEPS, STEPS[0]]
    machine.boot()
    driver_upgrade.upgrade(client, quiet)
    assert machine.done[3:] == ["boot", "up acme"]
    assert machine.state.loaded == machine.state.installed == LOCKED


def test_with_reboot_it_goes_through(gpu: Gpu, machine: MachineInMemory) -> None:
    driver_upgrade.upgrade(gpu(), quiet, driver_upgrade.Options(reboot=True))

    assert machine.done == [*STEPS, "boot", "up acme"]


def test_done_is_done(gpu: Gpu, machine: MachineInMemory) -> None:
    """Nobody is stopped for nothing; ``up`` proves."""
    machine.state = READY
    driver_upgrade.upgrade(gpu(), quiet)
    assert machine.done == ["up acme"]


def test_a_first_installation_needs_no_reboot(gpu: Gpu, machine: MachineInMemory) -> None:
    machine.state = BARE
    driver_upgrade.upgrade(gpu(), quiet)
    assert machine.done == [*STEPS, "up acme"]


def test_nouveau_goes_first(gpu: Gpu, machine: MachineInMemory) -> None:
    machine.state = replace(BARE, flags=frozenset({"nouveau"}))
    driver_upgrade.upgrade(gpu(), quiet, driver_upgrade.Options(reboot=True))
    assert machine.done == ["stop ollama of acme", "blacklist", "boot", f"install {LOCKED}", "up acme"]


@pytest.mark.parametrize("step", [STEPS[0], STEPS[1], "boot", "up acme"])
def test_whatever_it_was_cut_off_at_the_same_command_goes_on(
    gpu: Gpu, machine: MachineInMemory, step: str
) -> None:
    client = gpu()
    machine.breaks_at = step
    with pytest.raises(KeyboardInterrupt):
        driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True))

    driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True))

    assert machine.state.settled == machine.state.loaded == LOCKED
    assert machine.done[-1] == "up acme"
    assert machine.done.count(f"install {LOCKED}") == 1


def test_the_way_back_and_forth(gpu: Gpu, machine: MachineInMemory) -> None:
    client = gpu()
    driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True))
    machine.done.clear()

    with pytest.raises(driver.RebootNeededError):
        driver_upgrade.upgrade(client, quiet, rollback=True)
    machine.boot()
    driver_upgrade.upgrade(client, quiet, rollback=True)

    assert machine.state.loaded == OLD.version
    assert machine.done == ["stop ollama of acme", f"install {OLD.version}", "boot", "up acme"]
    driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True))
    assert machine.state.loaded == LOCKED


def test_without_a_version_before_there_is_no_way_back(gpu: Gpu, machine: MachineInMemory) -> None:
    machine.state = replace(READY, cache=(NEW,))
    with pytest.raises(BadInputError, match="no driver to go back to"):
        driver_upgrade.upgrade(gpu(), quiet, rollback=True)
    assert machine.done == []


def test_the_driver_of_an_administrator_is_left_alone(gpu: Gpu, machine: MachineInMemory) -> None:
    with pytest.raises(BadInputError, match="no node whose NVIDIA driver Freehold manages"):
        driver_upgrade.upgrade(gpu(driver="administrator"), quiet)
    assert machine.done == []


THEIRS = Guest(2065, "beta-ollama", "beta")


def test_other_clients_are_stopped_and_brought_up_along(
    gpu: Gpu, machine: MachineInMemory, home: Path
) -> None:
    client = gpu()
    theirs = yaml.safe_load((client.directory / "stack.yml").read_text())
    theirs |= {"client": "beta", "domain": "beta.internal", "vmids": {"first": 2000}}
    theirs["network"]["first"] = "10.86.0.200"
    folder = home / "freehold_inventory/beta"
    folder.mkdir()
    (folder / "stack.yml").write_text(yaml.safe_dump(theirs))
    machine.state = replace(BEFORE, guests=(THEIRS,))

    driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True))

    assert machine.done == [
        "stop ollama of acme",
        "stop beta-ollama of beta",
        f"install {LOCKED}",
        "boot",
        "up acme",
        "up beta",
    ]


def test_clients_that_nobody_here_knows_are_named_and_not_stopped(gpu: Gpu, machine: MachineInMemory) -> None:
    client = gpu()
    machine.state = replace(BEFORE, guests=(THEIRS,))

    with pytest.raises(driver_upgrade.SharedNodeError) as caught:
        driver_upgrade.upgrade(client, quiet)

    assert "beta-ollama of beta" in caught.value.message
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert machine.done == []
    driver_upgrade.upgrade(client, quiet, driver_upgrade.Options(reboot=True, leave_stopped=True))
    assert "stop beta-ollama of beta" in machine.done


def test_nobody_is_stopped_for_a_driver_that_cannot_be_installed(gpu: Gpu, machine: MachineInMemory) -> None:
    machine.state = replace(BEFORE, secure_boot=True, key_enrolled=False)

    with pytest.raises(driver_upgrade.ObstacleError) as caught:
        driver_upgrade.upgrade(gpu(), quiet, driver_upgrade.Options(reboot=True))

    assert "Secure Boot" in str(caught.value.answer)
    assert "mokutil --import" in str(caught.value.remedy)
    assert machine.done == []


def test_a_dry_run_names_every_step(gpu: Gpu, machine: MachineInMemory) -> None:
    machine.state = replace(BEFORE, guests=(Guest(300, "games", None),))

    (node,) = driver_upgrade.plan(gpu())

    assert node.steps("acme", reboot=False) == [
        "Stop ollama of acme (container 1065)",
        "Left to their owners, not Freehold's: games",
        f"Fetch the driver {LOCKED} into /var/cache/freehold/nvidia of pve",
        f"Install the driver {LOCKED} on pve in place of {OLD.version}",
        "Stop there until pve was rebooted; the same command goes on",
        "Make the device nodes of pve, before any container starts",
        f"Bring acme up: start its containers, give them the user space of {LOCKED}, prove them",
    ]
    assert "Reboot pve: all its guests restart" in node.steps("acme", reboot=True)
    assert machine.done == []


def test_status_says_whether_node_and_containers_march_in_step(
    gpu: Gpu, machine: MachineInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.state = replace(READY, claims={"acme": Claim(LOCKED, own=False)}, guests=(THEIRS,))
    client = gpu()

    (good,) = driver.status(client)
    monkeypatch.setattr(driver, "_marker", lambda client, host: OLD.version)
    (behind,) = driver.status(client)

    assert good.in_lockstep
    assert good.as_dict()["former"] == OLD.version
    assert good.as_dict()["others"] == {"beta": ["beta-ollama"]}
    assert not behind.in_lockstep


def test_up_installs_where_nothing_is_and_replaces_nothing(gpu: Gpu, machine: MachineInMemory) -> None:
    class RunInMemory:
        """A stand-in of a run: the client is all that is asked of it."""

        client = gpu()

    driver.prepare(RunInMemory())  # type: ignore[arg-type]
    assert machine.done == []
    assert machine.state.loaded == OLD.version
    machine.state = BARE
    driver.prepare(RunInMemory())  # type: ignore[arg-type]
    assert machine.done == [f"install {LOCKED}"]
    machine.state = replace(BARE, flags=frozenset({"nouveau"}))
    with pytest.raises(driver.RebootNeededError, match="must be rebooted"):
        driver.prepare(RunInMemory())  # type: ignore[arg-type]
