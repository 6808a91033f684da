"""The proof of a run: Testinfra checks on every host, and their report."""
