"""What a Proxmox VE node needs before containers can be made: run by ``freehold up``, or alone:

    FREEHOLD_CLIENT=lab pyinfra deploys/inventory.py --limit nodes deploys/node.py

The node keeps its own tools; the NVIDIA driver is a deploy of its own (``gpu.py``). Where the stack has a monitoring service, Debian's
node exporter is installed; it serves every client of the node, each with a user of its own.
"""

from pathlib import Path

from pyinfra import host

from freehold.catalog.versions import template_at_mirror
from freehold.pyinfra.gpu_truth import Watch, no_watch
from freehold.pyinfra.node import (
    ASSEMBLE_EXPORTER,
    EXPORTER,
    exporter_package,
    free_for_weights,
    no_exporter_user,
    no_gpu_unit,
    nvidia_minors,
    template,
    weights_of,
)
from freehold.pyinfra.system import Absent, Directory, File, handlers, tree, units
from freehold.render import render

layout = host.data.layout
guests = [guest for guest in layout.hosts if guest.node == host.data.freehold_host]
devices = sorted({device.path for guest in guests for device in guest.devices})
unit = f"freehold-gpu-{layout.client}.service"
weights = weights_of(layout, host.data.freehold_host)
watch = Watch.of_node(layout, host.data.freehold_host)

for system in host.loop(sorted({guest.os for guest in guests})):
    template(
        name=f"Template {system}",
        node=host.data.freehold_host,
        storage=layout.proxmox.template_storage,
        system=system,
        mirrored=template_at_mirror(system, Path(layout.directory), layout.sources.mirror),
    )

if weights:
    free_for_weights(name="Whether the directory of the weights is free", place=weights.path)
    tree(name="Directory of the weights", entries=[weights])

if devices:
    variables = {"client": layout.client, "devices": devices, "nvidia": nvidia_minors(devices)}
    tree(
        name="Unit that makes the GPU device nodes",
        entries=[
            File(
                f"/etc/systemd/system/{unit}",
                render("node/gpu-devices.service.j2", variables),
                handler=unit,
            )
        ],
    )
    handlers(
        name="Make the GPU device nodes",
        commands={unit: f"systemctl daemon-reload && systemctl restart {unit}"},
    )
    units(name="GPU device nodes at boot", running=[unit])
else:
    no_gpu_unit(
        name="No unit for GPU device nodes",
        unit=unit,
        client=layout.client,
        vmids=[guest.vmid for guest in layout.hosts],
    )

if layout.monitor:
    access = next(node for node in layout.nodes if node.name == host.data.freehold_host)
    ours = f"{EXPORTER}/{layout.client}"
    exporter_package(name="Node exporter", mirror=layout.sources.mirror)
    tree(
        name="Figures of this node",
        entries=[
            Directory(EXPORTER, mode="750", group="prometheus"),
            Directory("/var/lib/prometheus/node-exporter"),
            File(
                f"{ours}.user",
                f"  {layout.client}: {host.data.scrape_hash}\n",
                mode="600",
                handler="exporter",
            ),
            File(f"{ours}.address", f"{access.address}\n", mode="600", handler="exporter"),
            File(
                "/etc/systemd/system/prometheus-node-exporter.service",
                render("base/node-exporter.service.j2", {"address": None}),
                handler="exporter",
            ),
            *(
                [
                    File(f"{ours}.gpus", "".join(f"{pci}\n" for pci in access.gpus)),
                    File(
                        "/usr/local/lib/freehold/gpu-figures.sh",
                        render("node/gpu-figures.sh.j2", {}),
                        handler="gpus",
                    ),
                    File(
                        "/etc/systemd/system/freehold-gpu-figures.service",
                        render("node/gpu-figures.service.j2", {}),
                        handler="gpus",
                    ),
                ]
                if access.gpus
                else [Absent(f"{ours}.gpus")]
            ),
        ],
    )
    handlers(
        name="Apply what changed for the figures",
        commands={
            "exporter": ASSEMBLE_EXPORTER,
            "gpus": "systemctl daemon-reload && systemctl restart freehold-gpu-figures",
        },
    )
    units(
        name="Units of the figures",
        running=[
            "prometheus-node-exporter.service",
            *(["freehold-gpu-figures.service"] if access.gpus else []),
        ],
    )
else:
    no_exporter_user(name="No figures of this node for the client", client=layout.client)

if watch.wanted:
    tree(name="GPU truth test of the engines", entries=watch.entries())
    handlers(name="Apply what changed for the GPU truth test", commands=watch.handlers())
    units(name="Timer of the GPU truth test", running=[watch.timer])
else:
    no_watch(name="No GPU truth test of the client", unit=watch.timer, paths=watch.paths)
