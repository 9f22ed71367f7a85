"""Networks with their subnets, and ports: aggregates and commands."""

from __future__ import annotations
