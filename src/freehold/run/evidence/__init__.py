"""Evidence for an auditor: what is known of a client's stack in one signed folder (docs/evidence.md)."""
