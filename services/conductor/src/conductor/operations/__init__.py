"""Sagas that are under way, for whoever must go on with them."""
