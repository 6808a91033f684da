"""The Proxmox VE API in pyinfra's idiom, and pyinfra as a child process.

This package imports nothing at its top: ``python -m freehold.pyinfra`` lets gevent patch the standard library before
anything else is loaded.
"""
