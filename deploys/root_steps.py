"""Root steps of the plan on the nodes (devices, bind mounts, features): run by ``freehold up``, or alone:

FREEHOLD_CLIENT=lab pyinfra deploys/inventory.py --limit nodes deploys/root_steps.py
"""

from pyinfra import host

from freehold.pyinfra import session
from freehold.pyinfra.node import root_steps

plan, phases = session.current().plan, session.current().phases
steps = [step for phase in phases for step in plan.root_steps(phase) if step.node == host.data.freehold_host]

if steps:
    root_steps(name="Root steps", steps=steps)
