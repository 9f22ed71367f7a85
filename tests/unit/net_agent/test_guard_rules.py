"""What a guest may call itself, and what its groups let pass, as rules. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest

from net_agent.drivers.linux.guard import names
from net_agent.drivers.linux.guard.addresses import senders
from net_agent.drivers.linux.guard.backends import Backend, BridgeBackend, IpBackend
from net_agent.drivers.linux.guard.groups import Limits, group_chains, port_chains
from net_agent.drivers.linux.guard.plan import Plan, groups_in_use, members_of_groups
from net_agent.drivers.linux.guard.spoofing import spoofing_rules
from net_agent.drivers.linux.ruleset import Chain, Table, difference, seen_of
from net_agent.model import AllowedPair, GroupMember, Port, SecurityGroup, SecurityGroupRule
from tests.unit.net_agent.samples import NETWORK, NETWORK_ID, make_port, sample_id

WEB, FRONT = sample_id(0xD1), sample_id(0xD2)
TCP, ICMP, ICMPV6 = 6, 1, 58


def rule(*, egress: bool = False, ip_version: int = 4, **fields: Any) -> SecurityGroupRule:
    anything: dict[str, Any] = dict.fromkeys(
        ("protocol", "ports", "icmp_type", "icmp_code", "remote_cidr", "remote_group_id")
    )
    return SecurityGroupRule(rule_id="r", egress=egress, ip_version=ip_version, **(anything | fields))


def text(**fields: Any) -> str:
    """The one rule of a group, in nft's language."""
    out, into = group_chains(SecurityGroup(WEB, (rule(**fields),)))
    [found] = (out if fields.get("egress") else into).rules
    return found.text


def plan(*ports: Port, groups: tuple[SecurityGroup, ...] = (), **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "ports": ports,
        "networks": (NETWORK,),
        "groups": groups_in_use(ports, {group.group_id: group for group in groups}),
        "members": {},
        "devices": {NETWORK_ID: frozenset({"qdh1", "eth9"})},
        "uplinks": frozenset({"eth9"}),
        "zones": {NETWORK_ID: 5},
        "marks": {port.device: number for number, port in enumerate(ports, 1)},
    }
    return Plan(**(fields | changes))


def chain_of(tables: tuple[Table, ...], name: str) -> Chain:
    [found] = (chain for table in tables for chain in table.chains if chain.name == name)
    return found


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, "meta protocol ip accept"),
        ({"ip_version": 6}, "meta protocol ip6 accept"),
        ({"protocol": TCP, "ports": (22, 22)}, "meta protocol ip tcp dport 22 accept"),
        ({"protocol": 17, "ports": (1, 9)}, "meta protocol ip udp dport 1-9 accept"),
        ({"protocol": 132, "ports": (5, 6)}, "meta protocol ip sctp dport 5-6 accept"),
        ({"protocol": TCP}, "meta protocol ip meta l4proto 6 accept"),
        ({"protocol": 47}, "meta protocol ip meta l4proto 47 accept"),
        ({"protocol": ICMP, "icmp_type": 8, "icmp_code": 0}, "meta protocol ip icmp type 8 icmp code 0 accept"),
        ({"protocol": ICMPV6, "icmp_type": 0, "ip_version": 6}, "meta protocol ip6 icmpv6 type 0 accept"),
        ({"remote_cidr": ip_network("10.0.0.0/8")}, "meta protocol ip ip saddr 10.0.0.0/8 accept"),
        ({"remote_cidr": ip_network("10.0.0.7/32")}, "meta protocol ip ip saddr 10.0.0.7 accept"),
        ({"remote_cidr": ip_network("0.0.0.0/0")}, "meta protocol ip accept"),
        (
            {"remote_cidr": ip_network("10.0.0.0/8"), "egress": True},
            "meta protocol ip ip daddr 10.0.0.0/8 accept",
        ),
        ({"remote_group_id": FRONT}, f"meta protocol ip ip saddr @members4-{FRONT} accept"),
        (
            {"remote_group_id": FRONT, "ip_version": 6, "egress": True},
            f"meta protocol ip6 ip6 daddr @members6-{FRONT} accept",
        ),
    ],
)
def test_each_rule_has_its_words(fields: dict[str, Any], wanted: str) -> None:
    assert text(**fields) == wanted


def test_members_are_elements_of_a_set_for_each_family_that_rules_name() -> None:
    group = SecurityGroup(WEB, (rule(remote_group_id=FRONT), rule(remote_group_id=FRONT, ip_version=6)))
    members = members_of_groups(
        [
            GroupMember("p", (FRONT, WEB), (ip_address("10.0.0.4"), ip_address("fd00::4"))),
            GroupMember("q", (FRONT,), (ip_address("10.0.0.5"),)),
        ]
    )
    made = plan(make_port(11, security_group_ids=(WEB,)), groups=(group,), members=members)
    sets = {each.name: each for each in made.member_sets()}
    # 10.0.0.4 and .5 are one range; nobody names WEB.
    assert sets[f"members4-{FRONT}"].elements == {"10.0.0.4/31"}
    assert sets[f"members6-{FRONT}"].elements == {"fd00::4"}
    assert len(sets) == 2 and all(each.interval for each in sets.values())


def test_a_port_has_its_groups_and_of_one_that_is_unknown_nothing() -> None:
    port = make_port(11, security_group_ids=(WEB, FRONT))
    out, into = port_chains(port, 5, frozenset({WEB}), Limits())
    for chain, name in ((out, f"egress-{WEB}"), (into, f"ingress-{WEB}")):
        texts = [each.text for each in chain.rules]
        assert [each for each in texts if each.startswith("jump")] == [f"jump {name}"]
        assert texts[-1] == "counter drop"


def test_what_every_guest_needs_comes_before_its_groups_and_its_limits() -> None:
    out, into = port_chains(make_port(11), 5, frozenset(), Limits(connections=21, new_per_second=9, parts=3))
    sent = [each.text for each in out.rules]
    assert "ip daddr 169.254.169.254 tcp dport 80 accept" in sent
    rate = "ct state new ct status & confirmed == 0 limit rate over 9/second burst 18 packets counter drop"
    count = "ct state new ct status & confirmed == 0 add @connections {{ {} ct count over 7 }} counter drop"
    limited = [rate, count.format("numgen inc mod 3 offset 33")]
    place = sent.index(rate)
    assert sent[place : place + 2] == limited, "what is too fast is not even counted"
    assert sent.index("ip protocol udp udp sport 68 udp dport 67 accept") < place
    received = [each.text for each in into.rules]
    place = received.index(rate)
    assert received[place + 1] == count.format("numgen inc mod 3 offset 30"), "what it gets is counted by itself"
    assert "ip saddr { 10.0.0.2 } udp sport 67 udp dport 68 accept" in received, "from its DHCP server alone"


def test_without_port_security_only_the_limits_are_left() -> None:
    port = make_port(11, unguarded=True, security_group_ids=(WEB,))
    assert spoofing_rules(port) == ()
    for chain in port_chains(port, 5, frozenset({WEB}), Limits()):
        assert [each.text.split()[0] for each in chain.rules] == ["ct", "ct", "accept"]
    assert groups_in_use([port], {WEB: SecurityGroup(WEB, ())}) == {}


def test_a_guest_is_who_it_is_and_no_router_or_dhcp_server() -> None:
    port = make_port(11, allowed_pairs=(AllowedPair(ip_network("10.0.0.192/28"), "fa:16:3e:00:00:77"),))
    texts = [each.text for each in spoofing_rules(port)]
    assert texts[2:6] == [
        "ether type { 8021q, 8021ad } counter drop",
        "udp sport 67 counter drop",
        "udp sport 547 counter drop",
        "icmpv6 type { nd-router-advert, nd-redirect } counter drop",
    ]
    assert texts[-1] == "counter drop"
    own, pair = port.mac_address, "fa:16:3e:00:00:77"
    assert f"ether saddr {own} ip saddr 10.0.0.11 accept" in texts
    assert f"ether saddr {pair} ip saddr 10.0.0.192/28 accept" in texts
    assert f"ether saddr {own} ip saddr 10.0.0.192/28 accept" not in texts, "an address goes with its MAC address"
    assert all(each.endswith("drop") or f"ether saddr {own}" in each or f"ether saddr {pair}" in each for each in texts)


def test_most_frames_pass_by_the_first_rule_and_none_that_the_others_would_stop() -> None:
    pairs = (
        AllowedPair(ip_network("10.0.0.192/28"), "fa:16:3e:00:00:77"),
        AllowedPair(ip_network("10.0.0.7/32"), make_port(11).mac_address),
    )
    first, second, *others = (each.text for each in spoofing_rules(make_port(11, allowed_pairs=pairs)))
    own = f"ether saddr {make_port(11).mac_address}"
    # A tagged frame has another type; who answers DHCP, or neighbours, is asked by the others.
    assert first == (f"ether type ip {own} ip saddr {{ 10.0.0.7, 10.0.0.11 }} th sport != 67 th sport != 547 accept")
    assert second == (
        f"ether type ip6 {own} ip6 saddr fe80::f816:3eff:fe00:b meta l4proto {{ tcp, udp }}"
        " th sport != 67 th sport != 547 accept"
    )
    assert f"{own} ip saddr {{ 10.0.0.7, 10.0.0.11 }} accept" in others
    assert f"{own} ip6 saddr fe80::f816:3eff:fe00:b accept" in others


def test_a_link_local_address_goes_with_its_mac_address() -> None:
    port = make_port(11, allowed_pairs=(AllowedPair(ip_network("fd00::/64"), make_port(11).mac_address),))
    [own] = senders(port)
    assert own.ipv6 == (ip_network("fd00::/64"), ip_network("fe80::f816:3eff:fe00:b/128"))
    [advert] = (each.text for each in spoofing_rules(port) if "nd-neighbor-advert" in each.text)
    assert hex(int(ip_address("fd00::"))) in advert and "counter drop" in advert


@pytest.mark.parametrize("backend", [IpBackend(), BridgeBackend()], ids=lambda each: each.name)
def test_both_back_ends_bring_the_same_traffic_to_the_same_chains(backend: Backend) -> None:
    ports = (make_port(11, security_group_ids=(WEB,)), make_port(12))
    tables = backend.tables(plan(*ports, groups=(SecurityGroup(WEB, (rule(),)),)))
    for port in ports:
        for name in (port.device, names.sending(port.device), names.receiving(port.device)):
            assert chain_of(tables, name).rules
        elements = {element for table in tables for each in table.sets for element in each.elements}
        assert {f"jump {names.sending(port.device)}", f"jump {names.receiving(port.device)}"} <= {
            element.partition(" : ")[2] for element in elements
        }
    assert chain_of(tables, f"zone-{NETWORK.bridge}").rules[0].text == "ct zone set 5"
    sending, receiving = (chain_of(tables[-1:], name) for name in ("senders", "receivers"))
    assert (sending.hook, receiving.hook) == ("forward", "forward") and sending.priority < receiving.priority
    texts = [each.text for each in sending.rules]
    [known] = (each for each in texts if each.startswith("ct state established,related"))
    assert texts.index("ct mark 1 counter drop") < texts.index(known), "nothing passes whose rule is gone"
    for chain in (sending, receiving):
        assert f"vmap @{chain.name}" in chain.rules[-1].text
    assert all(each.name == "cirra" for each in tables)


def test_arp_passes_where_it_is_tracked_as_no_connection() -> None:
    """What the sender may say of itself is asked in the chain of its tap, before."""
    port = make_port(11)
    tables = BridgeBackend().tables(plan(port))
    for name, chain in (("senders", names.sending(port.device)), ("receivers", names.receiving(port.device))):
        dispatch = [each.text for each in chain_of(tables, name).rules]
        assert dispatch.index("ether type arp accept") < len(dispatch) - 1
        assert "ct state invalid counter drop" in [each.text for each in chain_of(tables, chain).rules]


@pytest.mark.parametrize("backend", [IpBackend(), BridgeBackend()], ids=lambda each: each.name)
def test_services_are_cut_off_from_uplinks_both_ways(backend: Backend) -> None:
    tables = backend.tables(plan(make_port(11)))
    found = {each.name: each.elements for each in tables[0].sets}
    texts = " ".join(each.text for chain in tables[0].chains for each in chain.rules)
    assert found["uplinks"] == {"eth9"}
    if backend.shown_to_ip:
        assert "qdh1 : jump from-qdh1" in found["senders"] and "qdh1 : jump to-qdh1" in found["receivers"]
        assert [each.text for each in chain_of(tables, "from-qdh1").rules] == ["oifname @uplinks counter drop"]
        assert [each.text for each in chain_of(tables, "to-qdh1").rules] == ["iifname @uplinks counter drop"]
    else:
        assert found["services"] == {"qdh1"}
        assert "iifname @services oifname @uplinks counter drop" in texts
        assert "iifname @uplinks oifname @services counter drop" in texts


def test_the_numbers_of_marks_are_told_apart() -> None:
    ports = [make_port(number) for number in range(11, 14)]
    bridge, of_ip = IpBackend().tables(plan(*ports))
    maps = {each.name: each.elements for each in of_ip.sets}
    assert {element.split()[0] for element in maps["senders"]} == {str(number << 16) for number in (1, 2, 3)}
    assert {element.split()[0] for element in maps["receivers"]} == {"1", "2", "3"}
    assert chain_of((bridge,), f"from-{ports[1].device}").rules[0].text == "meta mark set 131072"
    # What was not seen by the hooks of IP goes no further.
    assert [each.text for each in chain_of((bridge,), "passed").rules][:4] == [
        "meta mark and 2147483648 != 0 ether type ip meta mark set 0 accept",
        "meta mark and 2147483648 != 0 ether type ip6 meta mark set 0 accept",
        "meta mark 0 accept",
        "ether type { ip, ip6 } counter drop",
    ]


def test_what_has_passed_is_marked_before_its_receiver_is_asked() -> None:
    """Who receives may still drop it: what is dropped goes nowhere, whatever its mark says."""
    _, of_ip = IpBackend().tables(plan(make_port(11)))
    texts = [each.text for each in chain_of((of_ip,), "receivers").rules]
    assert texts[:2] == [
        "meta mark and 2147483648 != 0 accept",
        "meta mark != 0 meta mark set meta mark or 2147483648",
    ]
    assert texts[2:] == ["meta mark and 65535 vmap @receivers"]
    # Of what is asked last, nothing else is in the way of frames.
    assert {each.name for each in of_ip.chains if each.hook == "forward"} == {"senders", "receivers"}


def test_comments_fit_and_tell_rules_apart() -> None:
    # NFTNL_UDATA_COMMENT_MAXLEN is 128.
    first, second = (
        [each.comment for table in IpBackend().tables(plan(port)) for chain in table.chains for each in chain.rules]
        for port in (make_port(11), replace(make_port(11), addresses=make_port(12).addresses))
    )
    assert all(len(comment) < 128 for comment in first)
    assert first != second


@pytest.mark.parametrize("backend", [IpBackend(), BridgeBackend()], ids=lambda each: each.name)
def test_a_network_that_comes_changes_nothing_that_the_others_need(backend: Backend) -> None:
    """Else ports of others would be seen without their rules for as long as its own are on their way."""
    other = replace(NETWORK, network_id=sample_id(0xA9), bridge="brq-other")
    before = plan(make_port(11))
    after = replace(
        before,
        ports=(*before.ports, make_port(12, network=other)),
        networks=(NETWORK, other),
        devices={**before.devices, other.network_id: frozenset({"qdh2", "vxl2"})},
        uplinks=before.uplinks | {"vxl2"},
        zones={**before.zones, other.network_id: 6},
        marks={**before.marks, make_port(12).device: 2},
    )
    needed = names.BASE_CHAINS | names.chains_of_port(make_port(11).device) | names.names_of_device("qdh1")
    for wanted, seen in zip(backend.tables(after), map(seen_of, backend.tables(before)), strict=True):
        found = difference(wanted, seen)
        assert found is not None and found.names is not None
        assert not found.names & needed


@pytest.mark.parametrize("backend", [BridgeBackend(), IpBackend()])
def test_no_two_ports_are_counted_together(backend: Backend) -> None:
    ports = [make_port(number) for number in (11, 12, 13)]
    tables = backend.tables(plan(*ports))
    offsets = [
        int(match.group(1))
        for table in tables
        for chain in table.chains
        for each in chain.rules
        if (match := re.search(r"add @connections { numgen inc mod 251 offset (\d+) ", each.text))
    ]
    assert len(offsets) == 6
    offsets.sort()
    assert all(later - earlier >= 251 for earlier, later in pairwise(offsets))
    [counted] = (each for table in tables for each in table.sets if each.name == "connections")
    assert counted.dynamic and counted.size >= 6 * 251
