"""Guest images that the demonstration and the tests boot, built from the machine's own packages.

`tiny` is a kernel and a busybox in 13 MB that reports over its serial console; `debian` is Debian 12 with
cloud-init and ssh. `build` gives either from a cache; `python -m deployment.guests` does so from a shell.
"""

from __future__ import annotations

from deployment.guests.cache import DEFAULT_CACHE_DIR, build
from deployment.guests.errors import GuestBuildError
from deployment.guests.image import GUEST_KINDS, GuestImage, GuestKind
from deployment.guests.recipe import OnProgress

__all__ = [
    "DEFAULT_CACHE_DIR",
    "GUEST_KINDS",
    "GuestBuildError",
    "GuestImage",
    "GuestKind",
    "OnProgress",
    "build",
]
