"""The roles of the control plane as processes of their own, which tests stop, kill and cut off."""
