"""Messages of rtnetlink as they are taken apart. What a kernel sends is in tests/contract/network/test_bandwidth.py."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from net_agent.drivers.linux import rtnetlink
from net_agent.drivers.linux.rtqdisc import Queues, read_queues

_NEW_QDISC, _DONE, _ERROR = 36, 3, 2
_ROOT, _INGRESS = 0xFFFF_FFFF, 0xFFFF_FFF1


class Link:
    """A socket with answers in it."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def recv(self, octets: int) -> bytes:
        return self._answers.pop(0)


def qdisc(index: int, parent: int, kind: bytes, options: bytes = b"") -> bytes:
    body = struct.pack("=B3xiIII", 0, index, 0x1_0000, parent, 0) + rtnetlink.attribute(1, kind + b"\0")
    return rtnetlink.message(_NEW_QDISC, 0, body + rtnetlink.attribute(2, options))


def bucket(rate: int, buffer: int, limit: int) -> bytes:
    rates = struct.pack("=8xI", rate) + bytes(12)
    return rtnetlink.attribute(1, rates + struct.pack("=III", limit, buffer, 0))


def test_attributes_end_where_the_message_does() -> None:
    content = rtnetlink.attribute(1, b"abc") + rtnetlink.attribute(0x8000 | 2, b"de")
    assert list(rtnetlink.attributes(content)) == [(1, b"abc"), (2, b"de")], "padding and flags are no part of them"
    assert list(rtnetlink.attributes(content + b"\0\0")) == [(1, b"abc"), (2, b"de")]
    assert list(rtnetlink.attributes(b"head" + content, 4)) == [(1, b"abc"), (2, b"de")]


def test_buckets_at_the_root_and_ingress_hooks_are_told_from_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(
        qdisc(2, _ROOT, b"noqueue") + qdisc(3, _ROOT, b"tbf", bucket(125_000, 9, 50_000)),
        qdisc(4, 0x1_0001, b"tbf", bucket(1, 2, 3)) + qdisc(3, _INGRESS, b"ingress"),
        rtnetlink.message(_DONE, 0, bytes(4)),
    )

    @contextmanager
    def opened() -> Iterator[Link]:
        yield link

    monkeypatch.setattr(rtnetlink, "opened", opened)
    assert read_queues() == Queues({3: (125_000, 9, 50_000)}, frozenset({3}))
    assert len(link.sent) == 1, "one question for all interfaces"


def test_an_answer_that_is_an_error_is_raised() -> None:
    link = Link(rtnetlink.message(_ERROR, 0, struct.pack("=i", -1)))
    with pytest.raises(PermissionError, match="the queues can't be read"):
        list(rtnetlink.dump(link, 38, b"", "the queues"))  # type: ignore[arg-type]
