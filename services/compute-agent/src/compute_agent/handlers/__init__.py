"""One handler for each kind of object that the agent ensures."""
