"""Make and change containers through the Proxmox VE API: run by ``freehold up``, or alone:

FREEHOLD_CLIENT=lab pyinfra deploys/inventory.py --limit containers deploys/container.py
"""

from pyinfra import host

from freehold.pyinfra.operations import container

container(name="Container", vmid=host.data.pve_vmid)
