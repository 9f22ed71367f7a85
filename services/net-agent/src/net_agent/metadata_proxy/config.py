"""What the net-agent tells a proxy: one JSON file, whose path is the proxy's only argument."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

LISTEN_ADDRESS = "169.254.169.254"
LISTEN_ADDRESS_IPV6 = "fe80::a9fe:a9fe"
LISTEN_PORT = 80


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Paths, and no secret itself, so that the file may be read by all.

    namespace: the network's namespace, in which it listens; the way to the service is in the host's.
    upstream_url: "https://host:port" of the metadata service, of several replicas separated by commas; http for tests.
    certificate, private_key, authority: PEM files of the host's TLS identity; unused with http.
    signing_key: the file with the host's metadata key (raw octets).
    credentials: a digest of what is in those files: a host with a new identity gets new proxies.
    guests_file: who has which address (`memory.GuestsFile`); "": nothing is remembered.
    user: who it becomes once it listens; "" to stay who it is.
    """

    host: str
    network_id: str
    namespace: str
    upstream_url: str
    certificate: str
    private_key: str
    authority: str
    signing_key: str
    pid_file: str
    log_file: str
    credentials: str = ""
    guests_file: str = ""
    user: str = ""
    # The interface in the namespace, where IPv6 is spoken; "" where it isn't.
    ipv6_interface: str = ""
    listen_address: str = LISTEN_ADDRESS
    listen_port: int = LISTEN_PORT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> ProxyConfig:
        return cls(**json.loads(path.read_text()))
