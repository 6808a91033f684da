"""Plan, apply, plan again: whatever the specifications, the second plan is empty, and every request fits the schema."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.proxmox.apply import apply, apply_change
from freehold.proxmox.changes import Action, Effect, Phase
from freehold.proxmox.client import Password
from freehold.proxmox.observe import Observed, observe
from freehold.proxmox.plan import plan, plan_down
from freehold.proxmox.spec import BindMount, ContainerSpec, DeviceSpec, Interface, VolumeSpec

from .client_standin import PveStandin

ROOT = Password("root@pam", "not-a-secret")
ALL = tuple(Phase)


def specs_of(draw: st.DrawFn, number: int) -> ContainerSpec:
    paths = draw(
        st.lists(st.sampled_from(["/data", "/models", "/backup", "/srv/x"]), unique=True, max_size=4)
    )
    cut = draw(st.integers(0, len(paths)))
    return ContainerSpec(
        node="pve",
        vmid=1000 + number,
        hostname=f"acme-h{number}",
        template="local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst",
        storage="guests",
        disk=draw(st.integers(4, 9)),
        cores=draw(st.integers(1, 8)),
        memory=draw(st.integers(128, 4096)),
        swap=draw(st.sampled_from([0, 512, 1024])),
        interfaces=tuple(
            Interface(
                name=f"eth{index}",
                bridge="vmbr0",
                address=f"10.{index}.0.{10 + number}/24",
                gateway=draw(st.sampled_from([None, f"10.{index}.0.1"])),
                vlan=draw(st.sampled_from([None, 20])),
                firewall=draw(st.booleans()),
            )
            for index in range(draw(st.integers(1, 2)))
        ),
        volumes=tuple(
            VolumeSpec(path=path, storage="guests", size=draw(st.integers(1, 4)), backup=draw(st.booleans()))
            for path in paths[:cut]
        ),
        mounts=tuple(
            BindMount(path=path, source=f"/tank{path}", read_only=draw(st.booleans())) for path in paths[cut:]
        ),
        devices=tuple(
            DeviceSpec(
                path=path,
                gid=draw(st.sampled_from([None, 0, 2107])),
                mode=draw(st.sampled_from([None, "0660", "0600"])),
            )
            for path in draw(
                st.lists(st.sampled_from(["/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd"]), unique=True)
            )
        ),
        features={"nesting": "1", **draw(st.sampled_from([{}, {"keyctl": "1"}, {"fuse": "1"}]))},
        nameservers=tuple(draw(st.sampled_from([(), ("9.9.9.9",), ("9.9.9.9", "1.1.1.1")]))),
        searchdomain=draw(st.sampled_from([None, "acme.example"])),
        onboot=draw(st.booleans()),
        startup_order=draw(st.sampled_from([None, 1, 40])),
        tags=("freehold", "client-acme", *draw(st.sampled_from([(), ("Zeta",), ("a", "b")]))),
        description=draw(st.sampled_from(["", "one line", "two\nlines\n", "umlaut ü, 100 %"])),
        pool="freehold-acme",
        protection=draw(st.booleans()),
        ssh_public_keys="ssh-ed25519 AAAA key",
        started=draw(st.booleans()),
    )


@st.composite
def stacks(draw: st.DrawFn) -> list[ContainerSpec]:
    return [specs_of(draw, number) for number in draw(st.lists(st.integers(0, 5), unique=True, max_size=3))]


def look(node: PveStandin, specs: list[ContainerSpec]) -> Observed:
    return observe(node.client(), specs, owner="acme", pool="freehold-acme", nodes=["pve"])


def up(node: PveStandin, specs: list[ContainerSpec], *, prune: bool = False) -> None:
    made = plan(specs, look(node, specs), prune=prune)
    apply(node.client(), made, ALL, root=node.client(ROOT))


@settings(max_examples=80, deadline=None)
@given(first=stacks(), second=stacks(), prune=st.booleans())
def test_a_second_plan_is_empty(first: list[ContainerSpec], second: list[ContainerSpec], prune: bool) -> None:
    node = PveStandin()
    for wanted in (first, second):
        up(node, wanted, prune=prune)
        again = plan(wanted, look(node, wanted), prune=prune)
        assert again.empty, [change.model_dump() for change in again.changes if change.actionable]
    writes = [(path, params) for method, path, params in node.requests if method == "PUT" and "/lxc/" in path]
    assert all("digest" in params for _, params in writes), writes


@settings(max_examples=40, deadline=None)
@given(first=stacks(), second=stacks(), stop_at=st.integers(0, 60))
def test_a_run_that_is_cut_off_is_finished_by_the_next(
    first: list[ContainerSpec], second: list[ContainerSpec], stop_at: int
) -> None:
    node = PveStandin()
    up(node, first)
    left = [stop_at]

    class Killed(BaseException):
        """The controller is gone."""

    def count(method: str, path: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    node.before = count
    try:
        up(node, second)
    except Killed:
        pass
    finally:
        node.before = lambda method, path: None
    up(node, second)
    assert plan(second, look(node, second)).empty
    wanted = {spec.vmid for spec in (*first, *second)}
    assert set(node.guests) <= wanted


@settings(max_examples=40, deadline=None)
@given(first=stacks())
def test_down_leaves_nothing_of_the_client_and_everything_else(first: list[ContainerSpec]) -> None:
    node = PveStandin()
    up(node, first)
    client = node.client()
    client.call(
        "POST", "/nodes/pve/lxc", {"vmid": 900, "ostemplate": "local:vztmpl/x.tar.zst", "rootfs": "guests:1"}
    )
    down = plan_down(look(node, []))
    apply(client, down)
    assert set(node.guests) == {900}
    assert plan_down(look(node, [])).empty


def test_changes_of_a_running_container_are_marked_and_a_restart_brings_them_into_force() -> None:
    node = PveStandin()
    base = ContainerSpec(
        node="pve",
        vmid=1000,
        hostname="acme-db",
        template="local:vztmpl/t.tar.zst",
        storage="guests",
        disk=4,
        cores=1,
        memory=512,
        interfaces=(Interface(name="eth0", bridge="vmbr0", address="10.0.0.5/24"),),
        volumes=(VolumeSpec(path="/data", storage="guests", size=2),),
        tags=("freehold", "client-acme"),
        pool="freehold-acme",
        protection=True,
    )
    up(node, [base])
    mac = node.guests[1000].config["net0"]
    wanted = base.model_copy(
        update={
            "memory": 1024,
            "disk": 6,
            "nameservers": ("9.9.9.9",),
            "devices": (DeviceSpec(path="/dev/nvidia0", gid=2107, mode="0660"),),
            "interfaces": (Interface(name="eth0", bridge="vmbr0", address="10.0.0.6/24", firewall=True),),
        }
    )
    made = plan([wanted], look(node, [wanted]))
    effects = {diff.field: diff.effect for change in made.changes for diff in change.diffs}
    assert effects == {
        "rootfs size": Effect.LIVE,
        "memory": Effect.LIVE,
        "net0": Effect.LIVE,
        "nameserver": Effect.RESTART,
        "dev0": Effect.RESTART,
    }
    assert [(c.action, c.phase) for c in made.changes] == [
        (Action.RESIZE, Phase.CONFIGURE),
        (Action.UPDATE, Phase.CONFIGURE),
        (Action.UPDATE, Phase.ROOT),
        (Action.RESTART, Phase.POWER),
    ]
    first = made.changes[0].calls[0]
    assert first.params["digest"] == node.guests[1000].digest()
    apply(node.client(), made, root=node.client(ROOT))
    config = node.guests[1000].config
    assert config["nameserver"] == "9.9.9.9"
    assert config["dev0"] == "/dev/nvidia0,gid=2107,mode=0660"
    assert mac.split("hwaddr=")[1][:17] in config["net0"]
    assert plan([wanted], look(node, [wanted])).empty
    # A restart that an earlier run owed is made up for.
    node.client().call("PUT", "/nodes/pve/lxc/1000/config", {"searchdomain": "x.example"})
    owed = wanted.model_copy(update={"searchdomain": "x.example"})
    assert [change.action for change in plan([owed], look(node, [owed])).changes] == [Action.RESTART]
    for change in plan([owed], look(node, [owed])).changes:
        apply_change(node.client(), change)
    assert plan([owed], look(node, [owed])).empty
