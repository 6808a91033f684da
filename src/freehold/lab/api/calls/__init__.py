"""The functions that answer the calls of the API; importing this registers them.

Part of a stand-in of Proxmox VE, for development.
"""

import freehold.lab.api.calls.access
import freehold.lab.api.calls.cluster
import freehold.lab.api.calls.firewall
import freehold.lab.api.calls.idle
import freehold.lab.api.calls.lxc
import freehold.lab.api.calls.node
import freehold.lab.api.calls.pools
import freehold.lab.api.calls.storage
import freehold.lab.api.calls.tasks
import freehold.lab.api.calls.users  # noqa: F401
