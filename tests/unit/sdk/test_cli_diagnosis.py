"""`cirra network diagnose`: a line per hop, the verdict with its remedy, an exit code for scripts."""

from __future__ import annotations

import json

import pytest

from cirra.network.v1 import diagnosis_pb2 as pb
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import FakeGateway

PORT = "01a1fd6f-2fa7-7ab2-91a7-9c95acdd5962"
RIGHT = pb.Hop(name="rules", state=pb.HOP_STATE_OK, observed="in force", host="h1", port=PORT)
BROKEN = pb.Hop(
    name="tap",
    state=pb.HOP_STATE_BROKEN,
    observed="tap1 is on no bridge",
    reason="TAP_OFF_BRIDGE",
    remedy="put it back",
    host="h1",
    port=PORT,
)
DOUBTFUL = pb.Hop(name="dhcp", state=pb.HOP_STATE_UNKNOWN, observed="no tap", reason="NO_TAP", host="h1", port=PORT)
INWARD = pb.Hop(
    name="groups",
    state=pb.HOP_STATE_NOT_APPLICABLE,
    direction=pb.HOP_DIRECTION_INWARD,
    observed="nothing is wanted",
    host="h1",
    port=PORT,
)


def diagnosis(state: pb.HopState.ValueType, hop: pb.Hop | None = None) -> pb.Diagnosis:
    return pb.Diagnosis(hops=[RIGHT, BROKEN, DOUBTFUL, INWARD], verdict=pb.Verdict(state=state, hop=hop))


def test_what_is_broken_is_told_with_its_remedy(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("Diagnose", diagnosis(pb.HOP_STATE_BROKEN, BROKEN))
    result = cirra(
        "network", "diagnose", "web", "--to", "tcp/22", "--from", "203.0.113.0/24", "--capture", "--peer", "db"
    )
    assert result.exit_code == 5
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:5] == [
        f"Port {PORT} on h1",
        "✓ rules in force",
        "✗ tap tap1 is on no bridge",
        "? dhcp no tap",
        "- ← groups nothing is wanted",
    ]
    assert lines[-2:] == ["broken at tap on h1: tap1 is on no bridge (TAP_OFF_BRIDGE)", "remedy: put it back"]
    [request] = gateway.requests("Diagnose")
    assert (request.instance, request.peer, request.to, request.from_cidr, request.capture) == (
        "web",
        "db",
        "tcp/22",
        "203.0.113.0/24",
        True,
    )


@pytest.mark.parametrize(
    ("state", "hop", "code", "said"),
    [
        (pb.HOP_STATE_OK, None, 0, "nothing is broken"),
        (pb.HOP_STATE_UNKNOWN, DOUBTFUL, 5, "nothing seen to be broken, but dhcp is unknown: no tap (NO_TAP)"),
    ],
)
def test_the_verdict(
    gateway: FakeGateway, cirra: Cirra, state: pb.HopState.ValueType, hop: pb.Hop | None, code: int, said: str
) -> None:
    gateway.answers("Diagnose", diagnosis(state, hop))
    result = cirra("network", "diagnose", "--port", "p")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (code, said)


def test_a_trace(gateway: FakeGateway, cirra: Cirra) -> None:
    sightings = [pb.Sighting(device="tap1", place="the guest's tap", probe_seen=True), pb.Sighting(device="eth1")]
    found = pb.Diagnosis(traces=[pb.Trace(probe="DHCPDISCOVER", port=PORT, host="h1", sightings=sightings)])
    gateway.answers("Diagnose", found)
    text = cirra("network", "diagnose", "web").stdout
    assert f"DHCPDISCOVER of port {PORT}:" in text
    row = next(line for line in text.splitlines() if "tap1" in line)
    assert row.split() == ["the", "guest's", "tap", "tap1", "seen", "-"]


def test_json_has_all_of_it(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("Diagnose", diagnosis(pb.HOP_STATE_BROKEN, BROKEN))
    result = cirra("network", "diagnose", "web", "-o", "json")
    told = json.loads(result.stdout)
    assert result.exit_code == 5
    assert [hop["state"] for hop in told["hops"]] == ["OK", "BROKEN", "UNKNOWN", "NOT_APPLICABLE"]
    assert told["verdict"]["hop"]["reason"] == "TAP_OFF_BRIDGE"


def test_of_nothing(cirra: Cirra) -> None:
    result = cirra("network", "diagnose")
    assert result.exit_code == 2 and "--port" in result.stderr
