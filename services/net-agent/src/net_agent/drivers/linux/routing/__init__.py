"""Routers on this host: a namespace for each router, and one for each network that is their way out."""
