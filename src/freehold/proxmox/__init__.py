"""The Proxmox VE API: what is, what should be, and the calls between."""
