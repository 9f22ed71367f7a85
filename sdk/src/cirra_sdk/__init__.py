"""Cirra's Python SDK: an async and a sync client of the public API, and the `cirra` command."""
