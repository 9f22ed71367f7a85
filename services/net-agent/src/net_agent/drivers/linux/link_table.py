"""The host's interfaces, read again only when the kernel says that one has changed (rtnetlink(7), RTNLGRP_LINK)."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Collection

from pyroute2 import IPRoute

from net_agent.drivers.linux.links import Links, all_links, get_link
from net_agent.drivers.linux.namespace import Namespaces

_RTMGRP_LINK = 1
_RECEIVE_OCTETS = 1 << 16


class LinkTable:
    """Of the host's own namespace. The kernel tells of a change before it answers to who made it, so that what is
    remembered as long as nothing was told is what a look would find."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._news: socket.socket | None = None
        self._links: Links | None = None

    async def all(self) -> Links:
        return await self._namespaces.on_host(self._read_all)

    async def some(self, names: Collection[str]) -> Links:
        """At least these, if they exist."""
        return await self._namespaces.on_host(lambda: self._read_some(names))

    def close(self) -> None:
        if self._news is not None:
            self._news.close()

    def _read_all(self) -> Links:
        with self._lock:
            if self._have_changed() or self._links is None:
                with IPRoute() as ip:
                    self._links = Links(all_links(ip))
            return self._links

    def _read_some(self, names: Collection[str]) -> Links:
        with self._lock:
            if self._have_changed():
                self._links = None
            if self._links is not None:
                return self._links
        with IPRoute() as ip:
            return Links([link for name in sorted(names) if (link := get_link(ip, name)) is not None])

    def _have_changed(self) -> bool:
        if self._news is None:
            self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._news.setblocking(False)
            self._news.bind((0, _RTMGRP_LINK))
            return True
        changed = False
        while True:
            try:
                self._news.recv(_RECEIVE_OCTETS)
            except BlockingIOError:
                return changed
            except OSError as error:
                # More was told than the socket holds.
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True
