"""A guest on each host."""

from __future__ import annotations

import asyncio

from cirra.compute.v1.compute_pb2 import Instance
from cirra.compute.v1.server_group_pb2 import SERVER_GROUP_POLICY_ANTI_AFFINITY
from deployment.demo.tenant import Tenant
from tests.e2e.cloud import comes_true
from tests.testbed.testbed import Testbed

# Under emulation, where others want the processors, too.
BOOT_TIMEOUT_S = 240.0


async def boot_one_on_each(testbed: Testbed, tenant: Tenant, name: str) -> list[Instance]:
    """As many guests as there are hosts, asked for at once, that the scheduler has to keep apart; ACTIVE.

    As an administrator sees them: members are not told their hosts.
    """
    user = tenant.user
    group = await user.server_groups.create(name, SERVER_GROUP_POLICY_ANTI_AFFINITY)

    async def boot(number: int) -> Instance:
        operation = await user.instances.create(
            f"{name}-{number}",
            flavor=tenant.flavor,
            image=tenant.image,
            networks=[tenant.network],
            security_groups=[tenant.security_group],
            server_group=group,
        )
        await user.operations.wait(operation, timeout_s=BOOT_TIMEOUT_S)
        async with testbed.cloud.admin() as admin:
            return await admin.instances.get(operation.target)

    return [*await asyncio.gather(*map(boot, range(1, len(testbed.hosts) + 1)))]


async def is_itself(testbed: Testbed, instance: Instance) -> None:
    """Returns once the guest has told its name."""

    async def told() -> bool:
        return (await testbed.inside(instance).run("hostname")).text.strip() == instance.hostname

    await comes_true(told, f"the name of {instance.display_name}, by itself")


async def delete_all(tenant: Tenant, instances: list[Instance]) -> None:
    async def delete(instance: Instance) -> None:
        operation = await tenant.user.instances.delete(instance.name)
        await tenant.user.operations.wait(operation, timeout_s=BOOT_TIMEOUT_S)

    await asyncio.gather(*map(delete, instances))
