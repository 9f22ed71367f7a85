"""The driver of real hosts: Linux bridges, taps, namespaces, dnsmasq, nftables."""

from __future__ import annotations
