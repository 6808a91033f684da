"""Action plugin: tells the module which service and which handlers an image belongs to."""

from __future__ import annotations

from ansible_collections.freehold.stack.plugins.plugin_utils.role_action import RoleAction


class ActionModule(RoleAction):
    """``freehold.stack.oci_image``; its options are documented in the module of the same name."""
