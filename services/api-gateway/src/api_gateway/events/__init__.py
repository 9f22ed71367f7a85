"""The log as the public sees it: listings, timelines, and the feed of what happens now."""
