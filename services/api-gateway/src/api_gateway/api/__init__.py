"""The public gRPC services: reads from the views, writes forwarded to the conductor."""
