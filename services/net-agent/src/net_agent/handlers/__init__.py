"""Handlers: one per kind of desired object."""

from __future__ import annotations
