"""One per compute host: the image cache, instance folders, and domains under libvirt."""
