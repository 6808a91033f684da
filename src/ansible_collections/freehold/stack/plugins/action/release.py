"""Action plugin: tells the module which service and which handlers a release belongs to."""

from __future__ import annotations

from ansible_collections.freehold.stack.plugins.plugin_utils.role_action import RoleAction


class ActionModule(RoleAction):
    """``freehold.stack.release``; its options are documented in the module of the same name."""
