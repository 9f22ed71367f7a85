"""Ids and the names made of them."""

from __future__ import annotations

from uuid import UUID

from core.ids import bridge_device, dhcp_namespace, host_aggregate_id, last_segment, parse_uuid, tap_device, uuid7


def test_uuid7_is_version_7_of_the_rfc_variant_and_sorts_by_time() -> None:
    earlier = uuid7(now_ns=lambda: 1_000_000_000, random_bytes=lambda count: b"\xff" * count)
    later = uuid7(now_ns=lambda: 1_001_000_000, random_bytes=lambda count: b"\x00" * count)
    assert (earlier.version, later.version) == (7, 7)
    assert earlier.variant == "specified in RFC 4122"
    assert earlier < later
    assert earlier.int >> 80 == 1000


def test_device_names_fit_an_interface_name_and_differ_within_a_millisecond() -> None:
    ids = [uuid7(now_ns=lambda: 5) for _ in range(200)]
    assert len({tap_device(each) for each in ids}) == 200
    assert all(len(name(each)) <= 15 for each in ids for name in (tap_device, bridge_device))


def test_a_namespace_bears_the_whole_id() -> None:
    network = UUID("018f0000-0000-7000-8000-00000000000a")
    assert dhcp_namespace(str(network)) == "qdhcp-018f0000-0000-7000-8000-00000000000a"


def test_a_hosts_id_is_told_by_its_name() -> None:
    assert host_aggregate_id("host-1") == host_aggregate_id("host-1") != host_aggregate_id("host-2")


def test_resource_names() -> None:
    assert last_segment("projects/a/instances/b") == "b"
    assert last_segment("demo") == "demo"
    assert parse_uuid("demo") is None
