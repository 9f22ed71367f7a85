"""Aggregates of hosts: what they have in common."""
