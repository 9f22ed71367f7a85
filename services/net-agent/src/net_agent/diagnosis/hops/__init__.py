"""The hops of a guest's path: one function each, which looks and changes nothing."""

from __future__ import annotations
