"""Start, restart and stop containers as the plan says: run by ``freehold up``, or alone:

FREEHOLD_CLIENT=lab pyinfra deploys/inventory.py --limit containers deploys/power.py
"""

from pyinfra import host

from freehold.pyinfra.operations import power

power(name="Power", vmid=host.data.pve_vmid)
