"""The error that all faults share."""

from __future__ import annotations


class FaultFailed(Exception):
    """The fault could not be done: the test that asked for it proves nothing."""
