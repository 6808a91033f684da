"""A stand-in of a Proxmox VE node for development."""
