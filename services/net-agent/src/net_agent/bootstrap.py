"""Where the net-agent's parts are wired."""

from __future__ import annotations

import asyncio
from functools import partial

from cirra.agent.v1.desired_pb2 import InventoryObserved
from core.agent.faults import Faults
from core.agent.identity import HostIdentity
from core.agent.link import AgentLink
from core.agent.reporter import read_boot_id
from core.agent.runtime import AgentRuntime
from core.agent.state_folder import StateFolder
from core.service import Lifetime
from net_agent.conditions import Conditions, Look
from net_agent.diagnosis.host_filter_watch import HostFilterWatch
from net_agent.diagnosis.path import Targets
from net_agent.diagnosis.reader import PathReader, read_simulated
from net_agent.drivers.base import NetworkDriver
from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.own_address import own_address
from net_agent.drivers.linux.proxy import ProxyIdentity
from net_agent.drivers.simulated import Behaviour, SimulatedDriver
from net_agent.freshness import Freshness
from net_agent.handlers.derived import DerivedHandler
from net_agent.handlers.port import PortHandler
from net_agent.healer import Healer
from net_agent.inventory import inventory
from net_agent.model.kinds import DERIVED_KINDS
from net_agent.observer import GuestObserver
from net_agent.settings import NetAgentSettings


async def bootstrap(lifetime: Lifetime, settings: NetAgentSettings) -> None:
    """Adopts what is wired on this host, and heals it; with a bus, the runtime's reconcile has the say."""
    identity = HostIdentity.load(settings.host_directory)
    state = StateFolder(settings.state_directory, identity.folder)
    await asyncio.to_thread(state.initialise)
    driver = await make_driver(identity, settings)
    lifetime.on_stop(driver.close, "driver")
    faults = Faults()
    paths = await _path_reader(driver, faults, settings)
    conditions = Conditions(_looks(driver, paths), interval_s=settings.probe_interval_s)
    healer = Healer(driver, state, faults, interval_s=settings.heal_interval_s, conditions=lambda: conditions.found)
    freshness = Freshness(identity.folder / "net-agent-heard", read_boot_id(settings.boot_id_file))
    lifetime.start(healer.run(freshness.wait), "heal")
    lifetime.start(conditions.run(freshness.wait), "conditions")

    link = await AgentLink.open(identity, "net", settings, faults)
    lifetime.on_stop(link.close, "link")
    observer = GuestObserver(driver, link.reporter.report, interval_s=settings.observe_interval_s)

    async def look_at_inventory() -> InventoryObserved:
        return await asyncio.to_thread(inventory, driver.info)

    runtime = AgentRuntime(
        link,
        handlers=[PortHandler(driver, state), *(DerivedHandler(kind, driver, state) for kind in DERIVED_KINDS)],
        readers={"DiagnosePath": paths.read if paths is not None else read_simulated},
        inventory=look_at_inventory,
        background={"observe": observer.run, "freshness": lambda: freshness.keep(runtime.wait_fresh)},
        state=state,
    )
    lifetime.start(runtime.run(), "agent")
    lifetime.ready(host=identity.host, driver=driver.info.name)


async def make_driver(identity: HostIdentity, settings: NetAgentSettings) -> NetworkDriver:
    namespaces = make_namespaces(settings)
    address = settings.tunnel_address or await namespaces.on_host(lambda: own_address(identity.conductor_addresses))
    if settings.driver == "simulated":
        await asyncio.to_thread(namespaces.close)
        behaviour = Behaviour(settings.simulated_latency_s, settings.simulated_lease_delay_s)
        return await asyncio.to_thread(
            partial(
                SimulatedDriver,
                settings.state_directory / "simulated-network",
                behaviour,
                boot_id=read_boot_id(settings.boot_id_file),
                physical_networks=tuple(settings.physical_networks),
                tunnel_address=str(address or ""),
            )
        )
    return LinuxDriver(
        folder=settings.networks_directory,
        identity=ProxyIdentity(
            host=identity.host,
            metadata_url=identity.metadata_url,
            certificate=identity.tls.certificate,
            private_key=identity.tls.key,
            authority=identity.tls.authority,
            signing_key=identity.metadata_key,
        ),
        physical_networks=settings.physical_networks,
        namespaces=namespaces,
        tunnel_address=address,
    )


def make_namespaces(settings: NetAgentSettings) -> Namespaces:
    return Namespaces(host=settings.host_namespace, directory=settings.netns_directory)


async def _path_reader(driver: NetworkDriver, faults: Faults, settings: NetAgentSettings) -> PathReader | None:
    """None: the driver has no packets."""
    if not isinstance(driver, LinuxDriver):
        return None
    await driver.clear_probes()
    targets = Targets(settings.diagnose_address, settings.diagnose_name, settings.diagnose_address_ipv6)
    return PathReader(driver.ground, targets, lambda: faults.observed().faults)


def _looks(driver: NetworkDriver, paths: PathReader | None) -> list[Look]:
    """The conditions of the host that are probed."""
    looks: list[Look] = [driver.conditions]
    if isinstance(driver, LinuxDriver) and paths is not None:
        looks.append(HostFilterWatch(driver, paths).conditions)
    return looks
