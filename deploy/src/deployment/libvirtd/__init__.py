"""A libvirtd of our own, without systemd, that shares nothing with the machine's: `PrivateLibvirtd`.

`python -m deployment.libvirtd` is its launcher: it enters the private namespaces and becomes the daemon.
"""

from __future__ import annotations

from deployment.libvirtd.layout import Layout
from deployment.libvirtd.private import LibvirtdError, PrivateLibvirtd

__all__ = ["Layout", "LibvirtdError", "PrivateLibvirtd"]
