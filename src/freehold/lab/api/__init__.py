"""The API of the lab over HTTPS: a stand-in of Proxmox VE for development, for the loopback interface alone."""

from freehold.lab.api.server import create_app, serve

__all__ = ["create_app", "serve"]
