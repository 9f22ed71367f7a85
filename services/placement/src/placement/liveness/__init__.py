"""Liveness: silence measured on the own monotonic clock (DESIGN §6)."""
