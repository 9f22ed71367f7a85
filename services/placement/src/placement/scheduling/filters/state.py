"""By what a host is, and where: heard, enabled, its zone, its name, its networks."""

from __future__ import annotations

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask, all_of, none_of


class ComputeUp:
    """Every agent that guests need is heard."""

    name = "compute_up"
    ignores_claims = True
    remedy = "see `cirra service list` for agents that are silent, and start them"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        return hosts.up


class Accepted:
    """It is not observe-only: nothing differs there since the log was restored, or a person has accepted what does."""

    name = "accepted"
    ignores_claims = True
    remedy = "list what differs on the hosts since the restore, and accept it: cirra host differences"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        return ~hosts.observing


class Enabled:
    """No operator has disabled it."""

    name = "compute_enabled"
    ignores_claims = True
    remedy = "enable a host: `cirra host enable NAME`"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        return hosts.enabled


class AvailabilityZone:
    """It is in the zone that was asked for, if one was."""

    name = "availability_zone"
    ignores_claims = True
    remedy = "ask for another zone, or for none: `cirra availability zone list`"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        if not request.availability_zone:
            return all_of(hosts)
        return hosts.zones.equal(request.availability_zone, len(hosts))

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return f"not in {request.availability_zone!r}"


class RequestedHost:
    """It is the host that an administrator named, if one did (`zone:host`)."""

    name = "requested_host"
    ignores_claims = True
    remedy = "name another host, or none"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        if not request.host:
            return all_of(hosts)
        only = none_of(hosts)
        row = hosts.find(request.host)
        if row is not None:
            only[row] = True
        return only


class NotTriedYet:
    """It is none of the hosts where this request has failed already."""

    name = "not_tried_yet"
    ignores_claims = True
    remedy = "see what failed there: `cirra timeline INSTANCE`"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        rows = [row for host in request.excluded_hosts if (row := hosts.find(host)) is not None]
        left = all_of(hosts)
        left[rows] = False
        return left


class Tunnels:
    """It takes in tunnels of other hosts, where a port is on a VXLAN."""

    name = "tunnels"
    ignores_claims = True
    remedy = "give a host's net-agent an address for tunnels (CIRRA_TUNNEL_ADDRESS), or use a network that is no VXLAN"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        if not request.tunnels:
            return all_of(hosts)
        return hosts.attribute("tunnel_address", lambda inventory: inventory.tunnel_address).matching(bool, len(hosts))

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return "no address for tunnels"


class PhysicalNetwork:
    """It is wired to the provider segments of the ports."""

    name = "physical_network"
    ignores_claims = True
    remedy = "wire a host to the segment, or use another network"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        left = all_of(hosts)
        for label in request.physical_networks:
            left &= hosts.physical_networks.having(label, len(hosts))
        return left

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return f"not wired to {' and '.join(request.physical_networks)}"
