"""`make demo`: a guest from nothing, through the public API alone, until somebody has logged in to it."""

from __future__ import annotations

from deployment.demo.story import DemoFailed, DemoOptions, run_demo

__all__ = ["DemoFailed", "DemoOptions", "run_demo"]
