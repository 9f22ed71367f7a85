"""The two datagrams that the agent writes itself: DHCPRELEASE and a DNS question."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from net_agent.drivers.linux.dhcp_release import release_message
from net_agent.drivers.linux.dns_probe import answers, question
from net_agent.drivers.linux.leases import LeaseEntry


def test_a_release_is_laid_out_as_rfc_2131_says() -> None:
    lease = LeaseEntry("fa:16:3e:00:00:0b", IPv4Address("10.0.0.11"), "", b"\x01\x02")
    message = release_message(lease, IPv4Address("10.0.0.2"), b"abcd")
    assert message[:8] == b"\x01\x01\x06\x00abcd"
    assert message[12:16] == IPv4Address("10.0.0.11").packed
    assert message[28:34] == bytes.fromhex("fa163e00000b")
    assert message[236:240] == b"\x63\x82\x53\x63"
    assert message[240:] == b"\x35\x01\x07" + b"\x36\x04\x0a\x00\x00\x02" + b"\x3d\x02\x01\x02" + b"\xff"


def test_a_release_of_a_client_without_an_id_names_none() -> None:
    message = release_message(
        LeaseEntry("fa:16:3e:00:00:0b", IPv4Address("10.0.0.11"), "", b""), IPv4Address(1), b"abcd"
    )
    assert b"\x3d" not in message[240:]


def test_a_question_is_laid_out_as_rfc_1035_says() -> None:
    assert question("ab.c", 0x1234) == bytes.fromhex("123401000001000000000000" + "02616201630000010001")


@pytest.mark.parametrize(
    ("flags", "records", "query_id", "expected"),
    [
        (0x8580, 1, 7, True),
        (0x8583, 0, 7, False),  # NXDOMAIN
        (0x8580, 0, 7, False),
        (0x8580, 1, 8, False),
        (0x0100, 1, 7, False),  # a question
    ],
)
def test_an_answer_is_one_to_this_question_with_a_record(
    flags: int, records: int, query_id: int, expected: bool
) -> None:
    assert answers(struct.pack("!HHHHHH", query_id, flags, 1, records, 0, 0), 7) is expected


def test_a_short_answer_is_none() -> None:
    assert not answers(b"\x00\x07\x85", 7)
