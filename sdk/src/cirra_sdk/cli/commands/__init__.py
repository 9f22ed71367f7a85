"""One file per noun, or per few that belong together."""
