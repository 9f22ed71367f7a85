"""What the agents of a host share: identity, generations on disk, commands, reconcile, reports, heartbeats.

See docs/adr/0007-agents.md.
"""
