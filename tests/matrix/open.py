"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset()
