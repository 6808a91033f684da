"""From a stack to the hosts that it becomes."""
