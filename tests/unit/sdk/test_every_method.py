"""The SDK can all that the public API can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from api_gateway.auth.policy import NEEDS
from cirra.compute.v1.server_group_pb2 import SERVER_GROUP_POLICY_AFFINITY
from cirra.identity.v1.identity_pb2 import ROLE_READER
from cirra.network.v1.security_group_pb2 import SecurityGroupRule
from cirra_sdk import AsyncClient
from tests.unit.sdk.fake_gateway import SERVICES, FakeGateway

# A host calls it with its enrolment token (core.agent.identity): it is no user's.
NOT_FOR_USERS = {"Enroll"}

Doing = Callable[[AsyncClient], Awaitable[Any] | AsyncIterator[Any]]

CALLS: dict[str, Doing] = {
    "RevokeToken": lambda client: client.tokens.revoke("t"),
    "CreateToken": lambda client: client.tokens.create("ann", "secret"),
    "CreateProject": lambda client: client.projects.create("x"),
    "GetProject": lambda client: client.projects.get("x"),
    "ListProjects": lambda client: client.projects.list(),
    "DeleteProject": lambda client: client.projects.delete("x"),
    "CreateUser": lambda client: client.users.create("x", "p"),
    "GetUser": lambda client: client.users.get("x"),
    "ListUsers": lambda client: client.users.list(),
    "DeleteUser": lambda client: client.users.delete("x"),
    "GrantRole": lambda client: client.users.grant_role("x", ROLE_READER, "p"),
    "RevokeRole": lambda client: client.users.revoke_role("x", ROLE_READER, "p"),
    "GetQuotas": lambda client: client.quotas.get(),
    "SetQuotas": lambda client: client.quotas.set("x", {"vcpus": 1}),
    "GetDefaultQuotas": lambda client: client.quotas.get_default(),
    "SetDefaultQuotas": lambda client: client.quotas.set_default({"vcpus": 1}),
    "CreateFlavor": lambda client: client.flavors.create("x", vcpus=1, memory_mib=1, disk_gib=1),
    "GetFlavor": lambda client: client.flavors.get("x"),
    "ListFlavors": lambda client: client.flavors.list(),
    "DeleteFlavor": lambda client: client.flavors.delete("x"),
    "CreateKeyPair": lambda client: client.key_pairs.create("x", "ssh-ed25519 A"),
    "GetKeyPair": lambda client: client.key_pairs.get("x"),
    "ListKeyPairs": lambda client: client.key_pairs.list(),
    "DeleteKeyPair": lambda client: client.key_pairs.delete("x"),
    "CreateInstance": lambda client: client.instances.create("x", flavor="f", image="i", networks=["n"]),
    "CreateInstances": lambda client: client.instances.create_many("x", max_count=2, flavor="f", image="i"),
    "GetInstance": lambda client: client.instances.get("x"),
    "ListInstances": lambda client: client.instances.list(),
    "DeleteInstance": lambda client: client.instances.delete("x"),
    "GetConsoleOutput": lambda client: client.instances.console_output("x", lines=3),
    "GetInstancePassword": lambda client: client.instances.password("x"),
    "UpdateInstance": lambda client: client.instances.update("x", display_name="y"),
    "LockInstance": lambda client: client.instances.lock("x", "why"),
    "UnlockInstance": lambda client: client.instances.unlock("x"),
    "StartInstance": lambda client: client.instances.start("x"),
    "StopInstance": lambda client: client.instances.stop("x"),
    "RebootInstance": lambda client: client.instances.reboot("x", hard=True),
    "AttachInterface": lambda client: client.instances.attach_interface("x", network="n"),
    "DetachInterface": lambda client: client.instances.detach_interface("x", "p"),
    "WatchInstances": lambda client: client.instances.watch(),
    "CreateImage": lambda client: client.images.create("x"),
    "UploadImageData": lambda client: client.images.upload("x", Path(__file__)),
    "GetImage": lambda client: client.images.get("x"),
    "ListImages": lambda client: client.images.list(),
    "DeleteImage": lambda client: client.images.delete("x"),
    "CreateNetwork": lambda client: client.networks.create("x"),
    "GetNetwork": lambda client: client.networks.get("x"),
    "ListNetworks": lambda client: client.networks.list(),
    "UpdateNetwork": lambda client: client.networks.update("x", mtu=1400),
    "DeleteNetwork": lambda client: client.networks.delete("x"),
    "CreateSubnet": lambda client: client.subnets.create("x", network="n", cidr="10.0.0.0/24"),
    "GetSubnet": lambda client: client.subnets.get("x"),
    "ListSubnets": lambda client: client.subnets.list(network="n"),
    "UpdateSubnet": lambda client: client.subnets.update("x", no_dhcp=True),
    "DeleteSubnet": lambda client: client.subnets.delete("x"),
    "CreatePort": lambda client: client.ports.create(network="n"),
    "GetPort": lambda client: client.ports.get("x"),
    "ListPorts": lambda client: client.ports.list(network="n", device_id="i"),
    "DeletePort": lambda client: client.ports.delete("x"),
    "CreateRouter": lambda client: client.routers.create("x", external_network="n"),
    "GetRouter": lambda client: client.routers.get("x"),
    "ListRouters": lambda client: client.routers.list(external_network="n"),
    "UpdateRouter": lambda client: client.routers.update("x", routes=[("10.1.0.0/16", "10.0.0.9")]),
    "DeleteRouter": lambda client: client.routers.delete("x"),
    "AddRouterInterface": lambda client: client.routers.add_interface("x", "s", ip_address="10.0.0.9"),
    "RemoveRouterInterface": lambda client: client.routers.remove_interface("x", "s"),
    "SetRouterGateway": lambda client: client.routers.set_gateway("x", "n", enable_snat=False),
    "ClearRouterGateway": lambda client: client.routers.clear_gateway("x"),
    "CreateFloatingIp": lambda client: client.floating_ips.create("n"),
    "GetFloatingIp": lambda client: client.floating_ips.get("203.0.113.7"),
    "ListFloatingIps": lambda client: client.floating_ips.list(network="n", port="p"),
    "DeleteFloatingIp": lambda client: client.floating_ips.delete("x"),
    "AssociateFloatingIp": lambda client: client.floating_ips.associate("x", "p", move=True),
    "DisassociateFloatingIp": lambda client: client.floating_ips.disassociate("x"),
    "Diagnose": lambda client: client.diagnosis.diagnose("x", to="tcp/22"),
    "UpdatePort": lambda client: client.ports.update("x", port_security_enabled=False),
    "CreateSecurityGroup": lambda client: client.security_groups.create("x"),
    "GetSecurityGroup": lambda client: client.security_groups.get("x"),
    "ListSecurityGroups": lambda client: client.security_groups.list(),
    "UpdateSecurityGroup": lambda client: client.security_groups.update("x", display_name="y"),
    "DeleteSecurityGroup": lambda client: client.security_groups.delete("x"),
    "AddSecurityGroupRule": lambda client: client.security_groups.add_rule("x", SecurityGroupRule(protocol="tcp")),
    "RemoveSecurityGroupRule": lambda client: client.security_groups.remove_rule("x"),
    "GetOperation": lambda client: client.operations.get("x"),
    "ListOperations": lambda client: client.operations.list(target="x"),
    "WatchOperation": lambda client: client.operations.watch("x"),
    "RetryOperation": lambda client: client.operations.retry("x"),
    "ResolveOperation": lambda client: client.operations.resolve("x", "why"),
    "CancelOperation": lambda client: client.operations.cancel("x"),
    "ListEvents": lambda client: client.events.list(resource="x"),
    "WatchEvents": lambda client: client.events.watch(),
    "GetResourceAsOf": lambda client: client.events.resource_as_of("x"),
    "GetTimeline": lambda client: client.timeline.get("x"),
    "GetHost": lambda client: client.hosts.get("x"),
    "ListHosts": lambda client: client.hosts.list(),
    "ListHostDifferences": lambda client: client.hosts.differences("x"),
    "AcceptHostDifferences": lambda client: client.hosts.accept("x", "etag"),
    "EnableHost": lambda client: client.hosts.enable("x"),
    "DisableHost": lambda client: client.hosts.disable("x", "why"),
    "ApproveEvacuation": lambda client: client.hosts.approve_evacuation("x", "it burnt"),
    "UpdateHost": lambda client: client.hosts.update("x", cpu_allocation_ratio=4.0),
    "CreateAggregate": lambda client: client.aggregates.create("x"),
    "GetAggregate": lambda client: client.aggregates.get("x"),
    "ListAggregates": lambda client: client.aggregates.list(),
    "UpdateAggregate": lambda client: client.aggregates.update("x", availability_zone="z"),
    "DeleteAggregate": lambda client: client.aggregates.delete("x"),
    "AddAggregateHost": lambda client: client.aggregates.add_host("x", "h"),
    "RemoveAggregateHost": lambda client: client.aggregates.remove_host("x", "h"),
    "ListAvailabilityZones": lambda client: client.placement.zones(),
    "ExplainPlacement": lambda client: client.placement.explain("x"),
    "SimulatePlacement": lambda client: client.placement.simulate("f", 3),
    "CreateServerGroup": lambda client: client.server_groups.create("x", SERVER_GROUP_POLICY_AFFINITY),
    "GetServerGroup": lambda client: client.server_groups.get("x"),
    "ListServerGroups": lambda client: client.server_groups.list(),
    "DeleteServerGroup": lambda client: client.server_groups.delete("x"),
    "ListServices": lambda client: client.services.list(),
    "CreateEnrolmentToken": lambda client: client.enrolment_tokens.create("x"),
}
METHODS = {method.name: method for service in SERVICES for method in service.methods}


def test_the_public_methods_are_those_that_the_gateway_lets_in() -> None:
    """Who adds a service says whether it is for users; if so, its methods are the SDK's, and the command's."""
    assert {f"/{method.containing_service.full_name}/{name}" for name, method in METHODS.items()} == set(NEEDS)
    assert len(METHODS) == sum(len(service.methods) for service in SERVICES), "no two have one name"


def test_no_method_is_left_out() -> None:
    assert CALLS.keys() == METHODS.keys() - NOT_FOR_USERS


@pytest.mark.parametrize("name", CALLS)
async def test_a_method_is_called_and_every_write_names_itself(
    gateway: FakeGateway, client: AsyncClient, name: str
) -> None:
    method = METHODS[name]
    answer = GetMessageClass(method.output_type)()
    gateway.answers(name, [answer] if method.server_streaming else answer)

    doing = CALLS[name](client)
    if isinstance(doing, AsyncIterator):
        await anext(doing, None)
    else:
        await doing

    request = gateway.requests(name)[0]
    if "request_id" in method.input_type.fields_by_name:
        assert len(request.request_id) == 36
    else:
        reads = ("Get", "List", "Watch", "Explain", "Simulate", "Diagnose")
        assert method.name.startswith((*reads, "CreateToken", "RevokeToken", "Upload"))
