"""How a machine becomes a host: one-time tokens, and the identities that they are exchanged for."""

from __future__ import annotations
