"""Why a guest has no network: its packets' path on this host, hop by hop, each observed in the kernel (ADR 29)."""

from __future__ import annotations
