"""Choosing a host: filters, weighers, and the claim that makes the choice hold."""
