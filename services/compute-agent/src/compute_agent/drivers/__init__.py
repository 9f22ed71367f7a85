"""Hypervisors behind one Protocol (`base`): libvirt, and a simulated one for scale."""
