"""Instances, flavors, key pairs: aggregates, commands, sagas."""
