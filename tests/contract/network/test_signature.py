"""The proxy's signature is the one that the metadata service checks."""

from __future__ import annotations

import pytest

from metadata.proof import host_key, signed_by_host
from net_agent.metadata_proxy.signing import signature

MASTER = b"m" * 32
SAID = ("h1", "01920000-0000-7000-8000-00000000aa01", "10.0.0.11", "GET", "/latest/meta-data")


def test_what_a_host_signs_the_service_believes() -> None:
    assert signed_by_host(MASTER, signature(host_key(MASTER, "h1"), *SAID), *SAID)


@pytest.mark.parametrize("changed", range(len(SAID)))
def test_what_was_changed_on_the_way_it_does_not(changed: int) -> None:
    said = [*SAID]
    said[changed] += "1"
    host, network_id, address, method, path = said
    made = signature(host_key(MASTER, "h1"), *SAID)
    assert not signed_by_host(MASTER, made, host, network_id, address, method, path)


def test_a_host_does_not_speak_for_another() -> None:
    assert not signed_by_host(MASTER, signature(host_key(MASTER, "h2"), *SAID), *SAID)
