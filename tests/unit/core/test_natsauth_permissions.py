"""What a host's list of subjects says, read as nats-server reads it."""

from __future__ import annotations

import pytest

from core.errors import InvalidArgument
from core.natsauth.permissions import (
    HOST_BRIDGE,
    Permissions,
    host_permissions,
    identity_permissions,
    inbox_prefix,
)
from core.pki.identity import Identity

ALICE = host_permissions("c1", "alice")
ACK_V1 = "$JS.ACK.c1-COMMANDS.{}.1.7.3.1795248170605493766.0"
ACK_V2 = "$JS.ACK._.PtrbIWrt.c1-COMMANDS.{}.1.7.3.1795248170605493766.0"


def matches(pattern: str, subject: str) -> bool:
    """NATS subject matching: ``*`` is one token, a last ``>`` one or more."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(tokens) == len(wanted)


def may_publish(permissions: Permissions, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in permissions.publish)


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.CONSUMER.MSG.NEXT.c1-COMMANDS.alice--compute",
        "$JS.API.CONSUMER.MSG.NEXT.c1-COMMANDS.alice--net",
        "$JS.API.CONSUMER.MSG.NEXT.c1-COMMANDS.alice--block",
        ACK_V1.format("alice--compute"),
        ACK_V2.format("alice--block"),
        "c1.reports.alice.compute.DomainObserved.0198",
        "c1.heartbeats.alice.net",
        "c1.progress.alice.block.0198",
        "c1.deadletter.alice--net.c1-COMMANDS",
    ],
)
def test_a_host_may_publish_what_its_agents_need(subject: str) -> None:
    assert may_publish(ALICE, subject)


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.CONSUMER.MSG.NEXT.c1-COMMANDS.bob--compute",
        "$JS.API.CONSUMER.MSG.NEXT.c2-COMMANDS.alice--compute",
        "$JS.API.CONSUMER.MSG.NEXT.c1-EVENTS.alice--compute",
        "$JS.API.CONSUMER.CREATE.c1-COMMANDS.alice--compute",
        "$JS.API.CONSUMER.INFO.c1-COMMANDS.alice--compute",
        "$JS.API.STREAM.MSG.GET.c1-COMMANDS",
        "$JS.API.DIRECT.GET.c1-COMMANDS",
        "$JS.API.STREAM.PURGE.c1-COMMANDS",
        ACK_V1.format("bob--compute"),
        ACK_V2.format("bob--compute"),
        # One form of acknowledgement read as the other.
        "$JS.ACK.c1-COMMANDS.bob--compute.c1-COMMANDS.alice--compute.1.2.3",
        "$JS.ACK.c1-COMMANDS.bob--compute.c1-COMMANDS.alice--compute.1.2.3.4.5",
        "$JS.ACK.c1-COMMANDS.alice--compute.c1-COMMANDS.bob--compute.1.2.3.4.5",
        "c1.reports.bob.compute.DomainObserved.0198",
        "c1.heartbeats.bob.compute",
        "c2.heartbeats.alice.compute",
        "c1.commands.alice.compute.EnsureDomain.0198",
        "c1.events.instance.0198.InstanceCreated",
        "c1.deadletter.bob--net.c1-COMMANDS",
        "c1.service-heartbeats.conductor.1",
        "_INBOX_bob.x",
        "_INBOX.x",
    ],
)
def test_a_host_may_publish_nothing_else(subject: str) -> None:
    assert not may_publish(ALICE, subject)


def test_a_host_reads_only_its_own_inbox() -> None:
    assert ALICE.subscribe == ("_INBOX_alice.>",)


def test_all_that_a_host_may_publish_crosses_the_bridge() -> None:
    bridged = [subject.subject for subject in HOST_BRIDGE]
    for pattern in ALICE.publish:
        example = pattern.replace("*", "x").replace(">", "x")
        assert any(matches(subject, example) for subject in bridged), pattern


def test_the_bridge_leads_to_no_call_that_reads_or_changes_a_stream() -> None:
    calls = ("CONSUMER.CREATE.s.c", "CONSUMER.DELETE.s.c", "STREAM.MSG.GET.s", "DIRECT.GET.s", "STREAM.PURGE.s")
    for call in calls:
        assert not any(matches(bridged.subject, f"$JS.API.{call}") for bridged in HOST_BRIDGE), call


@pytest.mark.parametrize("host", ["", "a.b", "*", ">", "a b", "Alice", "-a", "a" * 64, "a_b", "a\n"])
def test_a_host_name_that_could_widen_a_subject_is_refused(host: str) -> None:
    with pytest.raises(InvalidArgument):
        host_permissions("c1", host)


@pytest.mark.parametrize("cell", ["", "a.b", "*", ">", "A", "a-b", "_a", "a" * 32])
def test_a_cell_name_that_could_widen_a_subject_is_refused(cell: str) -> None:
    with pytest.raises(InvalidArgument):
        host_permissions(cell, "alice")


def test_no_host_shares_a_consumer_with_another_whatever_its_name() -> None:
    ours = set(host_permissions("c1", "a").publish)
    assert ours.isdisjoint(host_permissions("c1", "a--compute").publish)
    assert ours.isdisjoint(host_permissions("c1", "a-").publish)


def test_empty_permissions_deny_rather_than_allow_everything() -> None:
    claims = Permissions(publish=(), subscribe=()).to_claims()
    assert claims == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}


def test_rights_follow_from_the_identity() -> None:
    assert identity_permissions("c1", Identity.host("alice")) == ALICE
    assert identity_permissions("c1", Identity.service("conductor")).publish == (">",)
    metadata = identity_permissions("c1", Identity.service("metadata"))
    assert may_publish(metadata, "$JS.API.CONSUMER.CREATE.c1-EVENTS.metadata.c1.events.>")
    assert not may_publish(metadata, "c1.commands.alice.compute.EnsureDomain.0198")
    assert not may_publish(metadata, "$JS.API.STREAM.PURGE.c1-EVENTS")


def test_a_host_named_like_a_service_gets_another_inbox() -> None:
    assert inbox_prefix(Identity.host("service-metadata")) != inbox_prefix(Identity.service("metadata"))
    assert inbox_prefix(Identity.host("metadata")) != inbox_prefix(Identity.service("metadata"))
