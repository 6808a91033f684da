"""Fixtures of the tests of a mirror."""

from .upstream_standin import upstream

__all__ = ["upstream"]
