"""Images on the host: downloaded once, verified, inspected, shared read-only as bases of overlays."""
