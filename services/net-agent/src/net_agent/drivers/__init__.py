"""Drivers: how a port is wired on a host."""

from __future__ import annotations
