"""Runs Cirra on a machine: certificates, embedded Postgres and NATS, the supervisor, and the demo."""
