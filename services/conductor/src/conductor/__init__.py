"""The write side: aggregates, commands, sagas, the relay from the log to NATS, desired state for hosts."""
