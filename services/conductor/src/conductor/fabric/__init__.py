"""What hosts must know beside their own ports, derived from the log (ADR 25)."""

from __future__ import annotations
