"""Filters: which hosts can take a request. Each is a class of its own, loaded by its entry point."""
