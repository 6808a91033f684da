"""What one difference becomes: its effect, its calls, its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.proxmox.changes import Action, Change, Effect, Phase, Plan
from freehold.proxmox.desired import create_params
from freehold.proxmox.observe import Observed, ObservedGuest
from freehold.proxmox.plan import plan, plan_down
from freehold.proxmox.spec import BindMount, ContainerSpec, DeviceSpec, Interface, VolumeSpec

CONFIG = {
    "arch": "amd64",
    "cores": "2",
    "description": "Made by Freehold.\n",
    "features": "nesting=1",
    "hostname": "acme-db",
    "memory": "2048",
    "mp0": "guests:1000/vm-1000-disk-1.raw,mp=/data,backup=1,size=8G",
    "net0": "name=eth0,bridge=vmbr0,firewall=1,gw=10.0.0.1,hwaddr=BC:24:11:AA:BB:CC,ip=10.0.0.5/24,type=veth",
    "onboot": "1",
    "ostype": "debian",
    "protection": "1",
    "rootfs": "guests:1000/vm-1000-disk-0.raw,size=8G",
    "startup": "order=2,up=5",
    "swap": "0",
    "tags": "client-acme;freehold",
    "unprivileged": "1",
}
SPEC = ContainerSpec(
    node="pve",
    vmid=1000,
    hostname="acme-db",
    template="local:vztmpl/t.tar.zst",
    storage="guests",
    disk=8,
    cores=2,
    memory=2048,
    interfaces=(
        Interface(name="eth0", bridge="vmbr0", address="10.0.0.5/24", gateway="10.0.0.1", firewall=True),
    ),
    volumes=(VolumeSpec(path="/data", storage="guests", size=8),),
    startup_order=2,
    tags=("freehold", "client-acme"),
    description="Made by Freehold.",
    pool="freehold-acme",
    protection=True,
)


def guest(config: dict[str, str] | None = None, **more: Any) -> ObservedGuest:
    whole = {**CONFIG, **(config or {})}
    base: dict[str, Any] = {
        "node": "pve",
        "vmid": 1000,
        "name": "acme-db",
        "running": True,
        "pool": "freehold-acme",
        "digest": "d" * 40,
        "config": {key: value for key, value in whole.items() if value},
    }
    return ObservedGuest.model_validate({**base, "current": base["config"], **more})


def planned(spec: ContainerSpec, observed: ObservedGuest, *, prune: bool = False) -> Plan:
    return plan([spec], Observed(client="acme", guests={1000: observed}), prune=prune)


def only(made: Plan) -> Change:
    (change,) = made.changes
    return change


def test_what_the_node_made_of_our_values_is_no_difference() -> None:
    assert planned(SPEC, guest()).changes == ()
    # Options that Freehold does not keep stay as they are.
    mine = {"cpulimit": "0.5", "tty": "4", "unused0": "guests:1000/vm-1000-disk-9.raw", "timezone": "host"}
    assert planned(SPEC, guest(mine)).changes == ()
    # So do the node's own spellings.
    other = {
        "tags": "freehold;client-acme",
        "onboot": "yes",
        "features": "nesting=true",
        "mp0": CONFIG["mp0"] + ",ro=0",
    }
    assert planned(SPEC, guest(other)).changes == ()


def test_a_plain_directory_has_no_size_to_compare() -> None:
    assert planned(SPEC, guest({"rootfs": "guests:1000/subvol-1000-disk-0.subvol,size=0T"})).changes == ()


def test_unset_and_default_are_the_same() -> None:
    spec = SPEC.model_copy(update={"onboot": False, "swap": 512, "startup_order": None})
    assert planned(spec, guest({"onboot": "", "swap": "", "startup": ""})).changes == ()


def test_an_option_that_is_not_wanted_any_more_is_deleted() -> None:
    change, restart = planned(SPEC, guest({"nameserver": "9.9.9.9"})).changes
    assert change.calls[0].params == {"delete": "nameserver", "digest": "d" * 40}
    assert change.effect is Effect.RESTART
    assert restart.action is Action.RESTART


def test_the_order_changes_and_the_delays_stay() -> None:
    change = only(planned(SPEC.model_copy(update={"startup_order": 7}), guest()))
    assert change.calls[0].params["startup"] == "order=7,up=5"
    assert change.effect is Effect.LIVE


def test_an_interface_keeps_its_mac_and_what_is_not_ours() -> None:
    config = {"net0": CONFIG["net0"] + ",mtu=1400"}
    wanted = Interface(name="eth0", bridge="vmbr1", address="10.0.0.6/24", vlan=20)
    change = only(planned(SPEC.model_copy(update={"interfaces": (wanted,)}), guest(config)))
    assert (
        change.calls[0].params["net0"]
        == "bridge=vmbr1,hwaddr=BC:24:11:AA:BB:CC,ip=10.0.0.6/24,mtu=1400,name=eth0,tag=20,type=veth"
    )


def test_a_device_is_a_root_step_and_a_restart() -> None:
    spec = SPEC.model_copy(update={"devices": (DeviceSpec(path="/dev/nvidia0", gid=2107, mode="0660"),)})
    root, power = planned(spec, guest()).changes
    assert (root.phase, power.action) == (Phase.ROOT, Action.RESTART)
    assert root.root_steps[0].argv("e" * 40) == [
        "pct",
        "set",
        "1000",
        "--dev0",
        "/dev/nvidia0,gid=2107,mode=0660",
        "--digest",
        "e" * 40,
    ]
    call = root.root_steps[0].call()
    assert call
    assert call.reread_digest
    stopped = planned(spec, guest(running=False))
    assert [change.action for change in stopped.changes] == [Action.UPDATE, Action.START]
    assert stopped.changes[0].effect is Effect.LIVE


def test_a_gpu_that_moved_is_taken_from_its_old_host() -> None:
    change = planned(SPEC, guest({"dev0": "/dev/nvidia0,gid=2107"})).changes[0]
    assert change.root_steps[0].delete == ("dev0",)


def test_a_gpu_whose_device_node_has_another_number_keeps_its_option_and_is_named() -> None:
    """Numbers of device nodes move with slots: one option changes, and the plan says which GPU it is about."""
    wanted = (
        DeviceSpec(path="/dev/nvidia1", gid=2107, label="GPU 0000:01:00.0 rtx-4090"),
        DeviceSpec(path="/dev/nvidiactl", gid=2107),
    )
    spec = SPEC.model_copy(update={"devices": wanted})
    before = {"dev0": "/dev/nvidia0,gid=2107", "dev1": "/dev/nvidiactl,gid=2107"}
    root, power = planned(spec, guest(before)).changes
    (diff,) = root.diffs
    assert (diff.field, diff.old, diff.new) == ("dev0", "/dev/nvidia0,gid=2107", "/dev/nvidia1,gid=2107")
    assert diff.about == "GPU 0000:01:00.0 rtx-4090"
    assert root.root_steps[0].options == {"dev0": "/dev/nvidia1,gid=2107"}
    assert root.root_steps[0].delete == ()
    assert power.action is Action.RESTART


def test_a_second_gpu_is_a_device_of_its_own() -> None:
    devices = tuple(DeviceSpec(path=f"/dev/nvidia{n}", label=f"GPU {n}") for n in (1, 0))
    spec = SPEC.model_copy(update={"devices": devices})
    (diff,) = planned(spec, guest({"dev0": "/dev/nvidia0"})).changes[0].diffs
    assert (diff.field, diff.old, diff.new, diff.about) == ("dev1", None, "/dev/nvidia1", "GPU 1")


def test_a_pending_device_is_reverted_before_it_is_removed() -> None:
    made = planned(SPEC, guest({"dev0": "/dev/nvidia0,mode=0600"}, pending=("dev0",)))
    steps = made.changes[0].root_steps
    assert [(step.revert, step.delete) for step in steps] == [(("dev0",), ()), ((), ("dev0",))]


def test_a_number_that_waits_for_its_removal_is_not_given_away() -> None:
    current = {**CONFIG, "mp1": "/old,mp=/old"}
    spec = SPEC.model_copy(update={"mounts": (BindMount(path="/new", source="/tank/new"),)})
    made = planned(spec, guest(current=current, pending=("mp1",)))
    root = next(change for change in made.changes if change.phase is Phase.ROOT)
    assert root.root_steps[0].options == {"mp2": "/tank/new,mp=/new"}


@pytest.mark.parametrize(
    ("before", "read_only", "after"),
    [
        ("/tank,mp=/models", True, "/tank,mp=/models,ro=1"),
        ("/tank,mp=/models,ro=1", False, "/tank,mp=/models"),
    ],
)
def test_a_directory_that_is_bound_can_become_read_only_and_back(
    before: str, read_only: bool, after: str
) -> None:
    spec = SPEC.model_copy(
        update={"mounts": (BindMount(path="/models", source="/tank", read_only=read_only),)}
    )
    found = guest({"mp1": before})
    (change,) = [change for change in planned(spec, found).changes if change.phase is Phase.ROOT]
    assert change.root_steps[0].options == {"mp1": after}
    assert change.effect is Effect.RESTART
    assert planned(spec, guest({"mp1": after})).empty


def test_nesting_alone_is_the_tokens_other_features_are_roots() -> None:
    nesting = planned(SPEC, guest({"features": ""})).changes[0]
    assert nesting.calls[0].params["features"] == "nesting=1"
    keyctl = planned(SPEC.model_copy(update={"features": {"keyctl": "1"}}), guest()).changes[0]
    assert keyctl.phase is Phase.ROOT
    assert keyctl.root_steps[0].options == {"features": "keyctl=1,nesting=1"}


@pytest.mark.parametrize(
    ("config", "spec", "field"),
    [
        ({"rootfs": "guests:1000/x.raw,size=16G"}, {}, "rootfs size"),
        ({"mp0": "guests:1000/x.raw,mp=/data,backup=1,size=16G"}, {}, "mp0 size"),
        ({"rootfs": "other:1000/x.raw,size=8G"}, {}, "rootfs storage"),
        ({"unprivileged": ""}, {}, "unprivileged"),
        ({}, {"node": "pve2"}, "node"),
        ({"mp0": "/tank,mp=/data"}, {}, "mp0"),
        ({}, {"volumes": (), "mounts": (BindMount(path="/data", source="/tank"),)}, "mp0"),
    ],
)
def test_what_cannot_be_done_in_place_says_what_to_do(
    config: dict[str, str], spec: dict[str, Any], field: str
) -> None:
    made = planned(SPEC.model_copy(update=spec), guest(config))
    ((change, diff),) = made.impossible
    assert diff.field == field
    assert diff.remedy
    assert "1000" in diff.remedy or "stack file" in diff.remedy
    assert change.effect is Effect.IMPOSSIBLE
    assert made.empty


def test_growing_is_a_call_of_its_own_with_the_digest_read_again_after_a_write() -> None:
    spec = SPEC.model_copy(
        update={"disk": 12, "volumes": (VolumeSpec(path="/data", storage="guests", size=10),)}
    )
    change = only(planned(spec, guest()))
    assert change.action is Action.RESIZE
    assert [(c.params, c.reread_digest) for c in change.calls] == [
        ({"disk": "rootfs", "size": "12G", "digest": "d" * 40}, False),
        ({"disk": "mp0", "size": "10G"}, True),
    ]
    both = planned(spec.model_copy(update={"memory": 4096}), guest()).changes
    assert [call.reread_digest for change in both for call in change.calls] == [False, True, True]


def test_a_mount_option_that_waits_repeats_the_size_that_the_volume_has_by_then() -> None:
    wanted = SPEC.model_copy(
        update={"volumes": (VolumeSpec(path="/data", storage="guests", size=10, backup=False),)}
    )
    grow, update, restart = planned(wanted, guest()).changes
    assert (grow.action, restart.action) == (Action.RESIZE, Action.RESTART)
    assert update.calls[0].params == {"mp0": "guests:1000/vm-1000-disk-1.raw,backup=0,mp=/data,size=10G"}
    # The volume grew while an earlier change still waits: what waits must not bring the old size back.
    old = CONFIG["mp0"].replace("backup=1", "backup=0")
    cut_off = guest(
        {"mp0": old}, current={**CONFIG, "mp0": CONFIG["mp0"].replace("8G", "10G")}, pending=("mp0",)
    )
    update, restart = planned(wanted, cut_off).changes
    assert str(update.calls[0].params["mp0"]).endswith("size=10G")
    assert restart.action is Action.RESTART


def test_a_volume_that_is_left_out_stays_unless_pruned() -> None:
    spec = SPEC.model_copy(update={"volumes": ()})
    kept = planned(spec, guest())
    assert kept.empty
    assert "--prune" in kept.notes[0]
    update = planned(spec, guest(), prune=True).changes[0]
    assert [call.params for call in update.calls] == [
        {"protection": 0, "digest": "d" * 40},
        {"delete": "mp0"},
        {"protection": 1},
    ]


def test_a_container_that_is_left_out_stays_unless_pruned() -> None:
    observed = Observed(client="acme", guests={1000: guest()})
    assert plan([], observed).empty
    assert "acme-db" in plan([], observed).notes[0]
    assert [change.action for change in plan([], observed, prune=True).changes] == [Action.DESTROY]


def test_destroying_lifts_the_protection_stops_and_names_what_is_lost() -> None:
    change = only(plan_down(Observed(client="acme", guests={1000: guest()})))
    assert [(call.method, call.path.split("/")[-1]) for call in change.calls] == [
        ("PUT", "config"),
        ("POST", "stop"),
        ("DELETE", "1000"),
    ]
    assert [call.owned_by for call in change.calls][1:] == ["acme", "acme"]
    assert [diff.field for diff in change.diffs] == ["mp0", "rootfs"]
    assert plan_down(Observed(client="acme", guests={1000: guest()}), [7]).empty


def test_a_guest_outside_the_pool_is_put_back() -> None:
    change = only(planned(SPEC, guest(pool=None)))
    assert change.calls[0].path == "/pools"
    assert change.calls[0].params == {"poolid": "freehold-acme", "vms": 1000}


def test_a_restart_that_an_earlier_run_owed_is_made_up_for() -> None:
    current = {key: value for key, value in CONFIG.items() if key != "features"}
    owed = only(planned(SPEC, guest(current=current, pending=("features",))))
    assert owed.action is Action.RESTART
    # What someone else left pending in options that Freehold does not keep is not its business.
    assert planned(SPEC, guest({"tty": "4"}, pending=("tty",))).empty


def test_stop_where_the_stack_says_so() -> None:
    assert only(planned(SPEC.model_copy(update={"started": False}), guest())).action is Action.STOP


def test_creation_sends_what_a_token_may_and_always_says_unprivileged() -> None:
    spec = SPEC.model_copy(
        update={
            "mounts": (BindMount(path="/models", source="/tank"),),
            "devices": (DeviceSpec(path="/dev/kfd"),),
            "features": {"fuse": "1"},
        }
    )
    params = create_params(spec)
    assert params["unprivileged"] == 1
    assert params["features"] == "nesting=1"
    assert not [key for key in params if key.startswith("dev") or "/tank" in str(params[key])]
    create, root, start = plan([spec], Observed(client="acme")).changes
    assert [create.phase, root.phase, start.phase] == [Phase.CONFIGURE, Phase.ROOT, Phase.POWER]
    assert root.root_steps[0].options == {
        "features": "fuse=1,nesting=1",
        "mp1": "/tank,mp=/models",
        "dev0": "/dev/kfd",
    }
    assert "start" not in params


def test_a_volume_that_was_detached_by_hand_is_not_replaced_by_an_empty_one() -> None:
    found = {"mp0": "", "unused0": "guests:1000/vm-1000-disk-1.raw"}
    ((_, diff),) = planned(SPEC, guest(found)).impossible
    assert (diff.field, diff.effect) == ("mp0", Effect.IMPOSSIBLE)
    assert "vm-1000-disk-1.raw" in str(diff.old)
    assert "pct set 1000 --mp0 guests:1000/vm-1000-disk-1.raw,mp=/data" in str(diff.remedy)
    assert "pct set 1000 --delete unused0" in str(diff.remedy)


def test_a_volume_that_is_gone_is_made_anew() -> None:
    assert only(planned(SPEC, guest({"mp0": ""}))).calls[0].params["mp0"] == "guests:8,backup=1,mp=/data"
