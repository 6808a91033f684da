"""The NVIDIA driver of a Proxmox VE node, at exactly one version: run by ``freehold up`` and ``freehold driver``, or alone:

    FREEHOLD_CLIENT=acme pyinfra deploys/inventory.py --limit nodes deploys/gpu.py

For nodes whose driver Freehold manages (``nodes.<name>.driver``). Another version that is installed stays, unless
``replace`` is set: a node's driver is changed by ``freehold driver upgrade``, which stops those who use it before. The node
is never rebooted here.
"""

from pathlib import Path

from pyinfra import host

from freehold.catalog import versions
from freehold.catalog.drivers import ARTIFACT
from freehold.nvidia import CLAIMS, Claim
from freehold.pyinfra import driver
from freehold.pyinfra.system import File, handlers, tree, units
from freehold.render import render

layout = host.data.layout
node = next(each for each in layout.nodes if each.name == host.data.freehold_host)
directory = Path(layout.directory)
release = driver.of_data(host.data.get("driver")) or driver.of_data(
    versions.artifact(ARTIFACT, directory, layout.sources.mirror)
)
replace = bool(host.data.get("replace"))
claim = Claim(
    versions.load(directory)[ARTIFACT].version,
    own=versions.load(directory)[ARTIFACT] != versions.load()[ARTIFACT],
)


def unit(name: str, handler: str | None = None) -> File:
    return File(
        f"/etc/systemd/system/{name}",
        render(f"node/{name.removeprefix('freehold-')}.j2", {}),
        handler=handler,
    )


if node.driver == "managed":
    driver.possible(
        name="What stands in the way of the driver",
        release=release,
        client=layout.client,
        cards=node.gpus,
        replace=replace,
    )
    tree(
        name="Modules of the node",
        entries=[
            File(
                "/etc/modprobe.d/freehold-nvidia.conf",
                render("node/nvidia-modprobe.conf.j2", {}),
                handler="initramfs",
            ),
            File("/etc/modules-load.d/freehold-nvidia.conf", "# Managed by Freehold\nnvidia\nnvidia_uvm\n"),
            File(
                "/etc/sysusers.d/freehold-nvidia.conf",
                'u nvidia-persistenced - "NVIDIA persistence daemon" /\n',
                handler="users",
            ),
            File(f"{CLAIMS}/{layout.client}", claim.line()),
            unit("nvidia-persistenced.service", handler="units"),
            File(
                "/usr/local/lib/freehold/driver-verify.sh",
                render("node/driver-verify.sh.j2", {}),
                handler="verify",
            ),
            unit("freehold-driver-verify.service", handler="units"),
            unit("freehold-driver-verify.timer", handler="units"),
            File("/etc/apt/apt.conf.d/90freehold-nvidia", render("node/driver-apt.conf.j2", {})),
        ],
    )
    handlers(
        name="Apply what changed for modules",
        commands={
            "initramfs": "update-initramfs -u -k all >&2",
            "users": "systemd-sysusers freehold-nvidia.conf",
            "units": "systemctl daemon-reload",
        },
    )
    driver.build_tools(name="DKMS, compiler, headers")
    driver.cached(name="Installer of the driver", release=release, replace=replace)
    driver.installed(name=f"Driver {release.version}", release=release, replace=replace)
    driver.modules(name="Modules for every kernel that boots")
    driver.loaded(name="Driver in the kernel")
    driver.persistence(name="Persistence daemon", unit="nvidia-persistenced.service")
    units(
        name="Look ahead to the next boot, each hour",
        running=["freehold-driver-verify.timer"],
    )
    handlers(
        name="Look ahead to the next boot",
        # a node that would boot without its driver is said so by figures and by `freehold check`
        commands={"verify": "systemctl start freehold-driver-verify.service || true"},
    )
