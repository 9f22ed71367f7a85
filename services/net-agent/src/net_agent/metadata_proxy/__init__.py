"""A network's metadata proxy: 169.254.169.254 in the network's namespace → the metadata service.

A process of its own, one per network and host, that outlives the net-agent. It imports little: it must start at once
and there may be hundreds of them.
"""

from __future__ import annotations
