"""By the server group's policy. The constraint rows of a claim decide; these propose hosts that they will accept."""

from __future__ import annotations

from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.claims.groups import most_per_host
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask, all_of, none_of


class ServerGroupAntiAffinity:
    """It has no member of the group yet (or fewer than the group allows)."""

    name = "server_group_anti_affinity"
    remedy = "add hosts, or use a group with policy soft-anti-affinity"

    def applies(self, request: scheduling.ClaimRequest) -> bool:
        return request.group.policy == scheduling.GROUP_POLICY_ANTI_AFFINITY

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        left, allowed = all_of(hosts), most_per_host(request.group)
        full = [row for row, count in hosts.groups.get(request.group.group_id, {}).items() if count >= allowed]
        left[full] = False
        return left

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return f"{most_per_host(request.group)} of the group on each"


class ServerGroupAffinity:
    """It is where the group's members are, if there are any."""

    name = "server_group_affinity"
    remedy = "free the host of the group, or use a group with policy soft-affinity"

    def applies(self, request: scheduling.ClaimRequest) -> bool:
        return request.group.policy == scheduling.GROUP_POLICY_AFFINITY

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        members = hosts.groups.get(request.group.group_id, {})
        if not members:
            return all_of(hosts)
        only = none_of(hosts)
        only[list(members)] = True
        return only

    def describe(self, hosts: HostTable, request: scheduling.ClaimRequest, removed: Mask) -> str:
        return "the group is elsewhere"
