"""A cloud of real processes, and who dies in it (`make chaos`)."""

from __future__ import annotations
