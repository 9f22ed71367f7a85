"""What this host has been told: on its disk, in memory, and how a change of it is carried out once for many."""

from __future__ import annotations
