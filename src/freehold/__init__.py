"""Freehold: a Proxmox VE server with GPUs becomes a private AI stack."""

__version__ = "0.1.0"
