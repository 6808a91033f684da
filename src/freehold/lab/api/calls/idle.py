"""Parts of Proxmox VE that are idle in the lab, and calls that it refuses (part of a stand-in, for development).

An idle part answers as on a node where nobody has set it up. A refused call checks privileges and parameters as the real one
does, so that a client without them is told so, and then answers 501.
"""

from __future__ import annotations

from typing import Any

from freehold.lab.answers import PveError
from freehold.lab.api.routes import Handler, endpoint
from freehold.lab.context import Call, Extra

_NODE = "/nodes/{node}"
_GUEST = _NODE + "/lxc/{vmid}"

_EMPTY = (
    "GET /cluster/backup",
    "GET /cluster/config/nodes",
    "GET /cluster/ha/resources",
    "GET /cluster/replication",
    "GET /cluster/sdn/vnets",
    "GET /cluster/sdn/zones",
    f"GET {_NODE}/sdn/zones",
)
_REFUSED = (
    f"DELETE {_NODE}/network",
    f"GET {_GUEST}/rrddata",
    f"GET {_NODE}/services",
    f"GET {_NODE}/syslog",
    f"POST {_GUEST}/migrate",
    f"POST {_GUEST}/move_volume",
    f"POST {_GUEST}/termproxy",
    f"POST {_NODE}/network",
    f"POST {_NODE}/startall",
    f"POST {_NODE}/status",
    f"POST {_NODE}/vzdump",
    f"PUT {_NODE}/network",
)


def _empty(_call: Call) -> Any:
    return []


def _refusal(key: str) -> Handler:
    def refuse(_call: Call) -> Any:
        raise PveError(501, f"Method '{key}' is not implemented in the lab")

    return refuse


for _key in _EMPTY:
    endpoint(_key)(_empty)
for _key in _REFUSED:
    endpoint(_key)(_refusal(_key))


@endpoint(f"GET {_NODE}/config")
def node_config(_call: Call) -> Any:
    """Nothing is configured."""
    return {}


@endpoint(f"GET {_NODE}/subscription")
def subscription(_call: Call) -> Any:
    """There is none."""
    return {
        "status": "notfound",
        "message": "There is no subscription key",
        "serverid": "0" * 32,
        "url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing",
    }


@endpoint(f"GET {_NODE}/services/{{service}}/state")
def service_state(call: Call) -> Any:
    """No service of a node runs here: of the firewall, rules are stored, and nothing filters by them."""
    name = str(call.params["service"])
    return {
        "service": name,
        "name": name,
        "desc": "not part of the lab",
        "state": "dead",
        "active-state": "inactive",
        "unit-state": "not-found",
    }


@endpoint("GET /cluster/ha/status/current")
def ha_status(call: Call) -> Any:
    """No guest is managed."""
    node = call.lab.state.node.name
    quorum = {"id": "quorum", "type": "quorum", "node": node, "status": "OK", "quorate": 1}
    fencing = {"id": "fencing", "type": "fencing", "node": node, "armed-state": "standby"}
    return [quorum, {**fencing, "status": "standby (CRM watchdog standby)"}]


@endpoint(f"GET {_GUEST}/firewall/log")
def firewall_log(_call: Call) -> Any:
    """No firewall runs, so there is no log."""
    return Extra([{"n": 1, "t": "unable to open file - No such file or directory"}], {"total": 1})
