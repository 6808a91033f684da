"""The machine of the lab: real LXC containers under a stand-in of the Proxmox VE API, for development.

Nothing here is used against a real Proxmox VE node.
"""
