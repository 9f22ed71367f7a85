"""Where the compute-agent's parts are wired."""

from __future__ import annotations

import functools

import httpx

from cirra.agent.v1.host_pb2 import GetImageDownloadRequest, GetImageDownloadResponse
from compute_agent import loops, probe
from compute_agent.drivers.base import HostFacts, HypervisorDriver
from compute_agent.drivers.libvirt.driver import LibvirtDriver
from compute_agent.drivers.simulated import SimulatedDriver
from compute_agent.handlers.domain import DomainHandler
from compute_agent.images.cache import ImageCache
from compute_agent.images.download import GetTicket, ImageDownloader
from compute_agent.instances import StateFolder
from compute_agent.inventory import inventory_source
from compute_agent.settings import ComputeAgentSettings
from core.agent.identity import HostIdentity
from core.agent.link import AgentLink
from core.agent.runtime import AgentRuntime, Background
from core.pki.tls import client_ssl_context
from core.service import Lifetime

_TICKET_TIMEOUT_S = 10.0


async def bootstrap(lifetime: Lifetime, settings: ComputeAgentSettings) -> None:
    identity = HostIdentity.load(settings.host_directory)
    state = StateFolder(settings.state_directory, identity.folder)
    state.initialise()
    link = await AgentLink.open(identity, "compute", settings)
    lifetime.on_stop(link.close, "link")

    background: dict[str, Background] = {}
    driver: HypervisorDriver
    if settings.driver == "simulated":
        driver = _simulated_driver(settings, state, link.boot_id)
    else:
        images = _image_cache(lifetime, settings, state, link)
        driver = await _libvirt_driver(settings, state, images, link.boot_id)
        background["image eviction"] = functools.partial(
            loops.evict_images,
            images,
            state,
            unused_for=settings.image_unused_for,
            interval_s=settings.image_eviction_interval_s,
            may_tidy=lambda: link.store.may_tidy,
        )
    await driver.open()
    lifetime.on_stop(driver.close, "driver")

    handler = DomainHandler(driver, state, shutdown_grace_s=settings.shutdown_grace_s)
    background["guest changes"] = functools.partial(loops.report_changes, driver, handler, link.reporter)
    runtime = AgentRuntime(
        link,
        handlers=[handler],
        readers={"ReadConsole": handler.read_console},
        inventory=inventory_source(driver, state),
        background=background,
        state=state,
    )
    lifetime.start(runtime.run(), "agent")
    lifetime.ready(host=identity.host, driver=driver.info.name, virt_types=",".join(driver.info.virt_types))


def _image_cache(lifetime: Lifetime, settings: ComputeAgentSettings, state: StateFolder, link: AgentLink) -> ImageCache:
    client = httpx.AsyncClient(
        verify=client_ssl_context(link.identity.tls), timeout=httpx.Timeout(30.0, connect=5.0), trust_env=False
    )
    lifetime.on_stop(client.aclose, "image downloads")
    downloader = ImageDownloader(_ticket_source(link), client, patience_s=settings.image_download_patience_s)
    return ImageCache(state.image_cache, downloader.download)


def _ticket_source(link: AgentLink) -> GetTicket:
    async def ticket(image_id: str) -> GetImageDownloadResponse:
        request = GetImageDownloadRequest(host=link.host, image_id=image_id)
        return await link.conductor.GetImageDownload(request, timeout=_TICKET_TIMEOUT_S)

    return ticket


async def _libvirt_driver(
    settings: ComputeAgentSettings, state: StateFolder, images: ImageCache, boot_id: str
) -> LibvirtDriver:
    return LibvirtDriver(
        settings.libvirt_uri,
        state=state,
        images=images,
        virt_types=await probe.cached_virt_types(settings.probe_cache, boot_id),
        patience_s=settings.libvirt_patience_s,
        tap_patience_s=settings.tap_patience_s,
    )


def _simulated_driver(settings: ComputeAgentSettings, state: StateFolder, boot_id: str) -> SimulatedDriver:
    capacity = HostFacts(
        vcpus=settings.simulated_vcpus,
        memory_mib=settings.simulated_memory_mib,
        disk_gib=settings.simulated_disk_gib,
        cpu_arch="x86_64",
        cpu_model="simulated",
        hypervisor_version="simulated",
    )
    return SimulatedDriver(state=state, capacity=capacity, boot_id=boot_id, latency_s=settings.simulated_latency_s)
