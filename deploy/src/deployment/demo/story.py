"""The demo from the first step to the last line."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cirra.compute.v1.compute_pb2 import INSTANCE_STATUS_ACTIVE, Instance
from cirra.network.v1.floating_ip_pb2 import FloatingIp
from cirra_sdk import AsyncClient
from cirra_sdk.errors import CirraError as SdkError
from cirra_sdk.errors import NotFound
from core.errors import CirraError
from core.ids import dhcp_namespace, last_segment
from deployment import clouds, guests
from deployment.config import Config
from deployment.demo import facts
from deployment.demo.evidence import evidence
from deployment.demo.guest import Guest, reach, wait_login
from deployment.demo.key import new_key
from deployment.demo.leftovers import left_on_host
from deployment.demo.place import outside_of, place_of, this_machine
from deployment.demo.progress import StepTeller, timeline_lines
from deployment.demo.tenant import Tenant, make_tenant
from deployment.demo.userdata import UserData, user_data
from deployment.demo.way_in import make_way_in
from deployment.guests import GuestImage, GuestKind
from deployment.layout import Layout

_OPERATION_TIMEOUT_S = 300.0
_NETWORK_GOES_S = 15.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`delete`: the instance goes at the end, and nothing of it may be left on the host."""

    guest: GuestKind = "debian"
    delete: bool = False


class DemoFailed(CirraError):
    """The demo did not come to its end; what there is to see has been said."""

    reason = "DEMO_FAILED"


class Story:
    def __init__(self, layout: Layout, config: Config, options: DemoOptions, say: Callable[[str], None]) -> None:
        self._layout = layout
        self._config = config
        self._options = options
        self._say = say
        self._instance: Instance | None = None
        self._place = this_machine(layout, config)
        self._began = datetime.now(UTC)

    async def tell(self) -> None:
        """Raises DemoFailed."""
        async with AsyncClient.of(clouds.admin(self._layout)) as admin:
            try:
                image = await asyncio.to_thread(guests.build, self._options.guest, on_progress=self._say)
                await self._tell(admin, image)
            except (CirraError, SdkError, guests.GuestBuildError, OSError, TimeoutError) as error:
                await self._explain(admin, error)
                raise DemoFailed(f"demo: failed: {_in_words(error)}", remedy=getattr(error, "remedy", "")) from error

    async def _tell(self, admin: AsyncClient, image: GuestImage) -> None:
        kind = self._options.guest
        self._say("== through the public API alone")
        key = self._layout.root / "demo" / secrets.token_hex(4)
        tenant = await make_tenant(admin, image, kind, new_key(key, "cirra-demo"), self._say)
        outside = outside_of(self._layout, self._config)
        way_in = await make_way_in(admin, tenant, self._say) if outside else None
        data = user_data(kind, f"{tenant.name}-{secrets.token_hex(4)}")

        self._say("== instance: each step of its saga as it happens")
        began = time.monotonic()
        instance = await self._boot(tenant, data)
        active_s = time.monotonic() - began
        self._place = await place_of(self._layout, self._config, admin, instance)
        self._say(f"ACTIVE after {active_s:.1f} s on host {instance.host or '(hidden)'}")

        floating = await way_in.give(instance, self._say) if way_in is not None else None
        guest = self._guest(instance, image, key, outside, floating)
        self._say(f"== login from {_where(instance, floating)}")
        self._say(guest.way)
        await wait_login(guest)
        login_s = time.monotonic() - began
        self._say(f"logged in after {login_s:.1f} s {_login_words(kind)}")
        await self._compare(tenant, instance, guest, data)
        await self._timeline(tenant, instance)
        if self._options.delete:
            if way_in is not None and floating is not None:
                await way_in.remove(floating)
            await self._delete(tenant, instance, [way_in.router.uid] if way_in is not None else [])
        address = instance.nics[0].fixed_ip
        self._say(f"demo: ok instance={instance.uid} ip={address} active_s={active_s:.1f} ssh_s={login_s:.1f}")

    async def _boot(self, tenant: Tenant, data: UserData) -> Instance:
        operation = await tenant.boot(data)
        self._instance = await tenant.user.instances.get(operation.target)
        teller = StepTeller(self._say)
        await tenant.user.operations.wait(operation, timeout_s=_OPERATION_TIMEOUT_S, on_change=teller.on_change)
        self._instance = instance = await tenant.user.instances.get(operation.target)
        if instance.status != INSTANCE_STATUS_ACTIVE:
            raise CirraError(f"the operation succeeded, and the instance is in status {instance.status}")
        return instance

    def _guest(
        self, instance: Instance, image: GuestImage, key: Path, outside: tuple[str, ...], floating: FloatingIp | None
    ) -> Guest:
        kind, user, nic = self._options.guest, image.login_user, instance.nics[0]
        if floating is not None:
            return reach(kind, "", floating.floating_ip_address, user, key, outside)
        return reach(kind, last_segment(nic.network), nic.fixed_ip, user, key, self._place.onto)

    async def _compare(self, tenant: Tenant, instance: Instance, guest: Guest, data: UserData) -> None:
        self._say("== as the guest got it")
        await facts.wait_settled(self._options.guest, guest)
        questions = facts.questions(self._options.guest, instance, data)
        for question, answer in zip(questions, await facts.ask(guest, questions), strict=True):
            self._say(f"  {question.title}: {answer}")
        self._say("== as the cloud sees it (cirra server show)")
        seen = self._instance = await facts.wait_seen(tenant.user, instance.name)
        for nic in seen.nics:
            self._say(f"  {nic.mac_address}: allocated {nic.fixed_ip}, leased {nic.leased_ip}, seen {nic.seen_ip}")
        fetched = seen.metadata_fetch_time.ToDatetime().isoformat(sep=" ", timespec="seconds")
        self._say(f"  metadata fetched: {fetched} UTC")

    async def _timeline(self, tenant: Tenant, instance: Instance) -> None:
        self._say("== its creation, told by the event log")
        for line in timeline_lines(await tenant.user.timeline.get(instance.name)):
            self._say(line)

    async def _delete(self, tenant: Tenant, instance: Instance, routers: Sequence[str]) -> None:
        self._say("== delete")
        operation = await tenant.user.instances.delete(instance.name)
        teller = StepTeller(self._say)
        await tenant.user.operations.wait(operation, timeout_s=_OPERATION_TIMEOUT_S, on_change=teller.on_change)
        # The last port takes its network along: the host is told of that when the port is gone.
        deadline = time.monotonic() + _NETWORK_GOES_S
        while left := await asyncio.to_thread(left_on_host, self._place, instance, routers):
            if time.monotonic() > deadline:
                raise CirraError(f"left on the host after the delete: {', '.join(left)}")
            await asyncio.sleep(0.2)
        self._say("nothing of it is left on the host")

    async def _explain(self, admin: AsyncClient, error: BaseException) -> None:
        instance = self._instance
        if instance is not None:
            try:
                instance = await admin.instances.get(instance.name)
            except NotFound:
                self._say(f"instance {instance.uid} is gone")
            except SdkError as further:
                self._say(f"the cloud does not tell how the instance is: {further}")
        for line in evidence(self._layout, self._place.layout, instance, self._began):
            self._say(line)


async def run_demo(layout: Layout, config: Config, options: DemoOptions, say: Callable[[str], None]) -> None:
    """Needs a cloud that is up. Raises DemoFailed, after having said what there is to see."""
    await Story(layout, config, options, say).tell()


def _in_words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _where(instance: Instance, floating: FloatingIp | None) -> str:
    if floating is not None:
        return f"outside, through {floating.floating_ip_address}"
    return f"{dhcp_namespace(last_segment(instance.nics[0].network))}: this machine has no outside of ours"


def _login_words(kind: GuestKind) -> str:
    return "over ssh, with the injected key" if kind == "debian" else "over HTTP: the tiny guest has no ssh"
