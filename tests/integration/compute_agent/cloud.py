"""What the compute-agent meets: a conductor that gives tickets, and a gateway that gives images for them."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cirra.agent.v1 import host_pb2
from cirra.agent.v1.desired_pb2 import DesiredObject, DomainSpec, ImageRef
from compute_agent.bootstrap import bootstrap
from compute_agent.settings import ComputeAgentSettings
from core.pki.authority import Authority
from core.rpc.context import require_host
from core.service import Lifetime
from deployment.guests import GuestImage
from tests.integration.agent.world import HOST, FakeConductor, World, until

TICKET = "ticket-1"


class ImageGateway:
    """Serves one file to the bearer of the ticket, by ranges, over TLS to clients of the same authority."""

    def __init__(self, authority: Authority, folder: Path, blob: Path) -> None:
        tls = authority.issue_server("api-gateway", [], folder)
        self.requests: list[str] = []
        self._blob = blob
        config = uvicorn.Config(
            Starlette(routes=[Route("/images", self._serve)]),
            port=0,
            ssl_certfile=tls.certificate,
            ssl_keyfile=tls.key,
            ssl_ca_certs=str(tls.authority),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
            log_level="warning",
        )
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """The URL."""
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"https://127.0.0.1:{port}/images"

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _serve(self, request: Request) -> Response:
        self.requests.append(request.headers.get("range", ""))
        if request.headers.get("authorization") != f"Bearer {TICKET}":
            return Response(status_code=401)
        return FileResponse(self._blob)


class TicketingConductor(FakeConductor):
    url = ""

    async def GetImageDownload(
        self, request: host_pb2.GetImageDownloadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.GetImageDownloadResponse:
        require_host(request.host)
        return host_pb2.GetImageDownloadResponse(url=self.url, ticket=TICKET)


@dataclass
class ComputeWorld(World):
    conductor: FakeConductor = field(default_factory=lambda: TicketingConductor())
    lifetimes: list[Lifetime] = field(default_factory=list)
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start_compute_agent(self, **settings: Any) -> Lifetime:
        """The whole agent, wired as in its process."""
        lifetime = Lifetime()
        self.lifetimes.append(lifetime)
        options = {"difference_interval_s": 0.2, "full_interval_s": 1.0, "shutdown_grace_s": 0.0, **settings}
        await bootstrap(
            lifetime,
            ComputeAgentSettings(
                host_directory=self.identity().folder,
                state_directory=self.folder / "state",
                boot_id_file=self.folder / "boot_id",
                **options,
            ),
        )
        return lifetime

    async def start_compute_agent_process(self, **settings: str) -> asyncio.subprocess.Process:
        """The agent as `cirra-compute-agent` runs, once it is ready; killed at the end."""
        ready_file = self.folder / "ready"
        ready_file.unlink(missing_ok=True)
        environment = {
            "CIRRA_HOST_DIRECTORY": str(self.identity().folder),
            "CIRRA_STATE_DIRECTORY": str(self.folder / "state"),
            "CIRRA_BOOT_ID_FILE": str(self.folder / "boot_id"),
            "CIRRA_READY_FILE": str(ready_file),
            "CIRRA_DIFFERENCE_INTERVAL_S": "0.2",
        }
        environment |= {f"CIRRA_{name.upper()}": value for name, value in settings.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "compute_agent", env=os.environ | environment, stdout=asyncio.subprocess.DEVNULL
        )
        self.processes.append(process)
        await until(lambda: ready_file.exists() or process.returncode is not None, "the agent is ready")
        assert process.returncode is None
        return process

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for lifetime in self.lifetimes:
            await lifetime.close()
        await super().close()


def domain_wish(generation: int, spec: DomainSpec, *, create: bool = False, absent: bool = False) -> DesiredObject:
    return DesiredObject(
        host=HOST,
        agent="compute",
        kind="domain",
        object_id=spec.instance_id,
        generation=generation,
        create=create,
        absent=absent,
        domain=None if absent else spec,
    )


def image_ref(image: GuestImage) -> ImageRef:
    return ImageRef(
        image_id="01970000-0000-7000-8000-000000000001",
        sha256=image.sha256,
        disk_format="qcow2",
        size_bytes=image.size_bytes,
        virtual_size_bytes=image.virtual_size_bytes,
    )
