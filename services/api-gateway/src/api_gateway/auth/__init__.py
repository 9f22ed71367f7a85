"""Who calls and what they may: access tokens, the table of permissions, and the layer that applies both."""
