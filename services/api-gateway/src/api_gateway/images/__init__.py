"""Image data: received, inspected as hostile, kept durably, handed out to hosts."""
