"""Frames that go the way of the guest's own, and their answers."""

from __future__ import annotations
