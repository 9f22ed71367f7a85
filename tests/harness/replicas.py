"""Starts replicas of the real services of one cell in this process, with settings as a supervisor would give them.

Without TLS: identities and their proofs have tests of their own (tests/integration/security).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api_gateway.bootstrap import bootstrap as gateway_bootstrap
from api_gateway.settings import GatewaySettings
from conductor.bootstrap import bootstrap as conductor_bootstrap
from conductor.settings import ConductorSettings
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority
from core.sealing import decode_master_key
from core.service import Lifetime
from core.testing.servers import Cell
from metadata.bootstrap import bootstrap as metadata_bootstrap
from metadata.settings import MetadataSettings
from placement.bootstrap import bootstrap as placement_bootstrap
from placement.settings import PlacementSettings
from tests.harness.planted import planted

ADMIN_PASSWORD = planted("correct horse")
# Longer than any stall of a busy machine: a host that is thought silent would make events of its own.
WINDOW_S = 60.0


class Replicas:
    """What runs. Lists are in order of starting; an address is `host:port`."""

    def __init__(self, cell: Cell, folder: Path, stack: AsyncExitStack, *, window_s: float = WINDOW_S) -> None:
        self.cell = cell
        self.folder = folder
        self._stack = stack
        self._window_s = window_s
        self.placements: list[Lifetime] = []
        self.conductors: list[Lifetime] = []
        self.gateways: list[Lifetime] = []
        self.metadatas: list[Lifetime] = []
        self.vendor_data_file: Path | None = None
        self.placement_addresses: list[str] = []
        self.conductor_addresses: list[str] = []
        self.gateway_addresses: list[str] = []

    def make_secrets(self) -> None:
        """What all replicas of the cell share."""
        Authority.create(self.folder / "ca")
        NatsKeys.create(self.folder / "nats-keys")
        for name in ("master", "ticket", "metadata"):
            (self.folder / name).write_text(base64.b64encode(os.urandom(32)).decode())
        (self.folder / "password").write_text(ADMIN_PASSWORD)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.token_key_file.write_bytes(pem)

    @property
    def token_key_file(self) -> Path:
        """What access tokens are signed with."""
        return self.folder / "token.pem"

    @property
    def master_key(self) -> bytes:
        """What wraps the keys of sealed fields."""
        return decode_master_key((self.folder / "master").read_text())

    @property
    def metadata_key(self) -> bytes:
        """What the keys of hosts' metadata proxies derive from."""
        return base64.b64decode((self.folder / "metadata").read_text())

    @property
    def blob_folder(self) -> Path:
        """Shared by the gateways."""
        return self.folder / "images"

    async def start_placement(self) -> Lifetime:
        replica = f"placement-{len(self.placements) + 1}"
        settings = PlacementSettings(**self._common(replica), heartbeat_window_s=self._window_s)
        lifetime, facts = await self._start(placement_bootstrap, settings)
        self.placements.append(lifetime)
        self.placement_addresses.append(facts["grpc"])
        return lifetime

    async def start_conductor(self) -> Lifetime:
        replica = f"conductor-{len(self.conductors) + 1}"
        settings = ConductorSettings(
            **self._common(replica),
            placement_addresses=tuple(self.placement_addresses),
            ca_directory=self.folder / "ca",
            nats_keys_directory=self.folder / "nats-keys",
            ticket_key_file=self.folder / "ticket",
            metadata_key_file=self.folder / "metadata",
            image_download_url="https://localhost/images",
            metadata_url="https://localhost",
            advertised_conductor_addresses=("localhost:1",),
            advertised_nats_urls=(self.cell.nats_url,),
            admin_password_file=self.folder / "password",
            # As cheap as can be: guessing these passwords is nobody's aim.
            password_time_cost=1,
            password_memory_kib=64,
        )
        lifetime, facts = await self._start(conductor_bootstrap, settings)
        self.conductors.append(lifetime)
        self.conductor_addresses.append(facts["grpc"])
        return lifetime

    async def start_gateway(self) -> Lifetime:
        replica = f"gateway-{len(self.gateways) + 1}"
        settings = GatewaySettings(
            **self._common(replica),
            conductor_addresses=tuple(self.conductor_addresses),
            placement_addresses=tuple(self.placement_addresses),
            token_key_file=self.token_key_file,
            ticket_key_file=self.folder / "ticket",
            blob_directory=self.blob_folder,
        )
        lifetime, facts = await self._start(gateway_bootstrap, settings)
        self.gateways.append(lifetime)
        self.gateway_addresses.append(facts["grpc"])
        return lifetime

    async def start_metadata(self) -> str:
        """Its address. Guests are told what `vendor_data_file` has, if there is one."""
        settings = MetadataSettings(
            **self._common(f"metadata-{len(self.metadatas) + 1}"),
            metadata_key_file=self.folder / "metadata",
            conductor_addresses=tuple(self.conductor_addresses),
            vendor_data_file=self.vendor_data_file,
        )
        lifetime, facts = await self._start(metadata_bootstrap, settings)
        self.metadatas.append(lifetime)
        return facts["https"]

    async def stop_services(self) -> None:
        """All replicas end in order, front doors first."""
        for lifetime in [*self.gateways, *self.metadatas, *self.conductors, *self.placements]:
            await lifetime.close()

    def _common(self, replica: str) -> dict[str, Any]:
        return {
            "cell": self.cell.name,
            "replica": replica,
            "postgres_dsn": self.cell.dsn,
            "nats_urls": (self.cell.nats_url,),
            "nats_credentials": self.cell.credentials,
            "master_key_file": self.folder / "master",
            "ready_file": self.folder / f"{replica}.ready",
        }

    async def _start(
        self, bootstrap: Callable[[Lifetime, Any], Awaitable[None]], settings: Any
    ) -> tuple[Lifetime, dict[str, str]]:
        """The replica, and what it said when it was ready."""
        lifetime = Lifetime(settings.ready_file)
        self._stack.push_async_callback(lifetime.close)
        await bootstrap(lifetime, settings)
        facts: dict[str, str] = json.loads(settings.ready_file.read_text())
        return lifetime, facts
