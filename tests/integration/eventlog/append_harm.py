"""Harm to the connection that appends, and to no other, over a `TcpLink` in front of Postgres."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from core.testing.faults.link import TcpLink

_SYNC = b"S\x00\x00\x00\x04"  # the protocol's Sync message, the last of every request


class Harm(Enum):
    NONE = auto()
    CUT_BEFORE_REQUEST = auto()
    """Cut the connection instead of passing the next append on."""
    CUT_BEFORE_ANSWER = auto()
    """Let the next append through, but cut the connection when Postgres answers."""
    WITHHOLD_SYNC = auto()
    """Pass the next append on without its last message, as a client that is stopped in the middle would."""


class AppendHarm:
    """`harm` is done once, to the next append; `harmed` tells that it was."""

    def __init__(self) -> None:
        self.harm = Harm.NONE
        self.harmed = asyncio.Event()

    def link(self, port: int) -> TcpLink:
        """The link to Postgres over which it is done."""
        return TcpLink(port, filter_of=lambda: _Harmed(self))


class _Harmed:
    """One connection. It is the one that appends once it has prepared `append_batch`."""

    def __init__(self, plan: AppendHarm) -> None:
        self._plan = plan
        self._appends = False
        self._cut_answer = False

    def to_server(self, data: bytes) -> bytes | None:
        if b"append_batch" in data:
            self._appends = True
        elif self._appends and self._plan.harm is not Harm.NONE:
            harm, self._plan.harm = self._plan.harm, Harm.NONE
            self._cut_answer = harm is Harm.CUT_BEFORE_ANSWER
            if harm is Harm.CUT_BEFORE_REQUEST:
                self._plan.harmed.set()
                return None
            if harm is Harm.WITHHOLD_SYNC:
                assert data.endswith(_SYNC)
                self._plan.harmed.set()
                return data[: -len(_SYNC)]
        return data

    def to_client(self, data: bytes) -> bytes | None:
        if self._cut_answer:
            self._plan.harmed.set()
            return None
        return data
