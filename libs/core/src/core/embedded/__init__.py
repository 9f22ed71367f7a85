"""Real servers out of wheels, run as child processes: Postgres (``postgres``) and nats-server (``nats``).

For development, demonstration and tests. They need the extra ``cirra-core[embedded]``.
"""
