"""What hosts shall do and what they say: desired state, commands, reports."""
