"""Hosts, inventories, claims, filter-and-weigh scheduling, and the detector of silent hosts."""
