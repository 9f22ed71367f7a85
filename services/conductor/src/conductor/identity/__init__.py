"""Projects, users, revoked tokens: aggregates and commands."""

from __future__ import annotations
