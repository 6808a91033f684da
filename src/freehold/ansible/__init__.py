"""Ansible as a child process."""
