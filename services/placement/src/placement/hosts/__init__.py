"""Hosts: what they have, and whether they can take guests."""
