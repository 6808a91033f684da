"""What a Proxmox VE node needs before containers can be made: run by ``freehold up``, or alone:

    FREEHOLD_CLIENT=lab pyinfra deploys/inventory.py --limit nodes deploys/node.py

Nothing is installed on the node: it keeps its own tools, and its drivers are its administrator's.
"""

from pyinfra import host

from freehold.pyinfra.node import no_gpu_unit, nvidia_minors, template
from freehold.pyinfra.system import File, handlers, tree, units
from freehold.render import render

layout = host.data.layout
guests = [guest for guest in layout.hosts if guest.node == host.data.freehold_host]
devices = sorted({device.path for guest in guests for device in guest.devices})
unit = f"freehold-gpu-{layout.client}.service"

for system in host.loop(sorted({guest.os for guest in guests})):
    template(name=f"Template {system}", storage=layout.proxmox.template_storage, system=system)

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
