"""The sub-clients of a client: one class per kind of resource, one file per service of the API."""
