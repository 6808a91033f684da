"""pyinfra's inventory of one client, named in FREEHOLD_CLIENT (a name below ./inventory, or the path of a stack file).

Groups: ``containers`` (the Proxmox VE API), ``guests`` and ``nodes`` (SSH).
"""

import os

from freehold.pyinfra import inventory, session
from freehold.run import gpus
from freehold.run.context import Client
from freehold.run.plan import plan

_client = Client.open(os.environ["FREEHOLD_CLIENT"])
session.share(session.Session(lambda: _client.api, lambda: plan(_client)[0]))
gpus.look(_client)  # the nodes themselves tell which device nodes their GPUs have
_groups = inventory.groups(_client.layout, _client.ssh().config, _client.scrape_hash)

containers = _groups["containers"]
guests = _groups["guests"]
nodes = _groups["nodes"]
