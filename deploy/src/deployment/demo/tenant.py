"""What the demo makes in the cloud, by the SDK alone: a project of its own with all that one instance needs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cirra.compute.v1.compute_pb2 import Flavor, KeyPair
from cirra.identity.v1.identity_pb2 import ROLE_MEMBER, Project
from cirra.image.v1.image_pb2 import Image
from cirra.network.v1.network_pb2 import Network
from cirra.network.v1.security_group_pb2 import TRAFFIC_DIRECTION_INGRESS, SecurityGroup, SecurityGroupRule
from cirra.operations.v1.operations_pb2 import Operation
from cirra_sdk import AsyncClient
from deployment.demo.userdata import UserData
from deployment.guests import GuestImage, GuestKind

CIDR = "10.42.0.0/24"
INSTANCE = "demo"

_NAME = re.compile(r"demo-(\d+)")
_QUOTAS = {"instances": 4, "vcpus": 8, "memory_mib": 8192, "networks": 2, "ports": 8}
_MEMORY_MIB: dict[GuestKind, int] = {"debian": 512, "tiny": 128}
_DISK_GIB: dict[GuestKind, int] = {"debian": 3, "tiny": 1}
# By ssh; the tiny guest has none, and takes commands by HTTP.
_LOGIN_PORTS: dict[GuestKind, int] = {"debian": 22, "tiny": 80}
_MIB = 1024**2

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A member of a fresh project, and the parts of an instance to be. `user` acts in that project only."""

    name: str
    user: AsyncClient
    project: Project
    image: Image
    flavor: Flavor
    key_pair: KeyPair
    network: Network
    security_group: SecurityGroup

    async def boot(self, user_data: UserData) -> Operation:
        return await self.user.instances.create(
            INSTANCE,
            flavor=self.flavor,
            image=self.image,
            key_pair=self.key_pair,
            networks=[self.network],
            security_groups=[self.security_group],
            user_data=user_data.text,
            metadata={"made-by": "demo"},
        )


async def make_tenant(admin: AsyncClient, guest: GuestImage, kind: GuestKind, public_key: str, tell: Tell) -> Tenant:
    """Everything up to the instance. Raises CirraApiError."""
    name = await _free_name(admin)
    project = await admin.projects.create(name, description="made by the demo")
    tell(f"project {name} ({project.uid})")
    await admin.quotas.set(project, _QUOTAS)
    tell("quota " + ", ".join(f"{resource}={limit}" for resource, limit in _QUOTAS.items()))
    password = secrets.token_urlsafe(18)
    member = await admin.users.create(name, password)
    await admin.users.grant_role(member, ROLE_MEMBER, project)
    tell(f"user {name}, member of {name}")
    flavor = await admin.flavors.create(
        f"{name}.small", vcpus=1, memory_mib=_MEMORY_MIB[kind], disk_gib=_DISK_GIB[kind]
    )
    tell(f"flavor {flavor.display_name}: {flavor.vcpus} vCPU, {flavor.memory_mib} MiB, {flavor.disk_gib} GiB")

    user = admin.login_as(name, password, name)
    image = await user.images.create(kind)
    image = await user.images.upload(image, guest.path)
    tell(f"image {kind}: {image.size_bytes // _MIB} MiB uploaded, sha256 {image.sha256[:12]}…")
    key_pair = await user.key_pairs.create(name, public_key)
    tell(f"key pair {key_pair.fingerprint}")
    network = await user.networks.create(name)
    subnet = await user.subnets.create(name, network=network, cidr=CIDR)
    tell(f"network {network.uid}, subnet {subnet.cidr}")
    group = await _let_in(user, kind, tell)
    return Tenant(name, user, project, image, flavor, key_pair, network, group)


async def _let_in(user: AsyncClient, kind: GuestKind, tell: Tell) -> SecurityGroup:
    """A security group for logging in and for ping: nothing gets to a guest unless a rule lets it in."""
    group = await user.security_groups.create("login", description="made by the demo")
    rules = [
        SecurityGroupRule(
            direction=TRAFFIC_DIRECTION_INGRESS,
            protocol="tcp",
            port_range_min=_LOGIN_PORTS[kind],
            port_range_max=_LOGIN_PORTS[kind],
        ),
        SecurityGroupRule(direction=TRAFFIC_DIRECTION_INGRESS, protocol="icmp"),
    ]
    for rule in rules:
        group = await user.security_groups.add_rule(group, rule)
    tell(f"security group {group.display_name}: lets in tcp/{_LOGIN_PORTS[kind]} and icmp")
    return group


async def _free_name(admin: AsyncClient) -> str:
    """demo-1 for the first demo of a cloud, and so on."""
    numbers = [0]
    async for project in admin.projects.list():
        if found := _NAME.fullmatch(project.display_name):
            numbers.append(int(found[1]))
    return f"demo-{max(numbers) + 1}"
