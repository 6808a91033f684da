"""GPUs as they are in the nodes: what the API and the machines themselves tell of them, and which one a stack means."""
