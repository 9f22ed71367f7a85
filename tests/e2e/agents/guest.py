"""One guest of the tests: its instance, its inside, and a mark on its disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DomainState
from cirra.compute.v1.compute_pb2 import Instance
from cirra.compute.v1.events_pb2 import InstanceDomainObserved
from cirra.image.v1.image_pb2 import Image
from cirra.operations.v1.operations_pb2 import Operation
from core.ids import dhcp_namespace, last_segment
from deployment.demo.guest import HttpGuest, wait_login
from deployment.demo.tenant import Tenant
from deployment.demo.userdata import user_data
from tests.e2e.agents.host import Host
from tests.e2e.cloud import eventually

M = TypeVar("M", bound=Message)

# A guest boots in five seconds, and in minutes under emulation where others want the processors, too.
TIMEOUT_S = 240.0
# Beyond the image's own 48 MiB, within the flavor's disk: nothing but the mark is there.
_MARK_SECTOR = 1024 * 1024


@dataclass(slots=True)
class TestGuest:
    """`instance`: as it was last seen."""

    __test__ = False

    tenant: Tenant
    host: Host
    instance: Instance

    @property
    def uid(self) -> str:
        return self.instance.uid

    @property
    def process(self) -> int:
        """The one QEMU that it is."""
        [pid] = self.host.qemus(self.uid)
        return pid

    async def look(self) -> Instance:
        self.instance = await self.tenant.user.instances.get(self.instance.name)
        return self.instance

    async def becomes(self, condition: Callable[[Instance], bool], what: str) -> Instance:
        """The instance, once the API shows it so."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(await self.look()):
            assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_S:g} s, but\n{self.instance}"
        return self.instance

    async def events(self, message_class: type[M]) -> list[M]:
        """Those of one type that the log has of it, in order."""
        wanted = message_class.DESCRIPTOR.full_name
        return [
            message_class.FromString(event.data.value)
            async for event in self.tenant.user.events.list(resource=self.instance)
            if event.type == wanted and event.aggregate_id == self.uid
        ]

    async def states(self) -> list[DomainState.ValueType]:
        """What its host has said of its domain, change by change."""
        return [event.observed.state for event in await self.events(InstanceDomainObserved)]

    async def run(self, script: str) -> str:
        """In the guest, once it can be reached; what the script printed. It runs again if its answer is late."""
        nic = (await self.look()).nics[0]
        inside = HttpGuest(dhcp_namespace(last_segment(nic.network)), nic.fixed_ip)
        await wait_login(inside, TIMEOUT_S)
        deadline = time.monotonic() + TIMEOUT_S
        while (output := await inside.run(script)).code is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        assert output.code == 0, output
        return output.text

    async def write_mark(self, mark: str) -> None:
        """On its disk, and through all caches."""
        await self.run(f"echo {mark} | dd of=/dev/vda bs=512 seek={_MARK_SECTOR} conv=sync,fsync 2>/dev/null")
        assert await self.read_mark() == mark

    async def read_mark(self) -> str:
        return (await self.run(f"dd if=/dev/vda bs=512 skip={_MARK_SECTOR} count=1 2>/dev/null | head -n 1")).strip()


async def create(tenant: Tenant, image: Image | None = None) -> Operation:
    """Asks for a guest; of the tenant's own image, if no other is named."""
    return await replace(tenant, image=image or tenant.image).boot(user_data("tiny", "agents"))


async def reached(tenant: Tenant, operation: Operation, step: str) -> None:
    """Returns once that step of the operation has begun."""
    deadline = time.monotonic() + TIMEOUT_S
    while step not in await _steps(tenant, operation):
        assert time.monotonic() < deadline, f"{operation.target} never came to {step}"
        await asyncio.sleep(0.02)


async def _steps(tenant: Tenant, operation: Operation) -> set[str]:
    return {entry.title for entry in (await tenant.user.timeline.get(operation.target)).entries}


async def created(tenant: Tenant, host: Host, operation: Operation) -> TestGuest:
    """The guest of a create that succeeds."""
    await tenant.user.operations.wait(operation, timeout_s=TIMEOUT_S)
    return TestGuest(tenant, host, await tenant.user.instances.get(operation.target))


@asynccontextmanager
async def running_guest(tenant: Tenant, host: Host) -> AsyncIterator[TestGuest]:
    """A guest that answers, deleted at the end without a trace of it on the host."""
    guest = await created(tenant, host, await create(tenant))
    await guest.run("true")
    yield guest
    await delete(guest)


async def delete(guest: TestGuest) -> None:
    await guest.tenant.user.operations.wait(
        await guest.tenant.user.instances.delete(guest.instance.name), timeout_s=TIMEOUT_S
    )
    await eventually(lambda: not guest.host.qemus(guest.uid), "the guest is gone")
    await eventually(lambda: not guest.host.cloud.guest_folder(guest.uid).exists(), "its disk as well")
