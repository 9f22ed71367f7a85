"""Claims: capacity of a host, held for an instance."""
