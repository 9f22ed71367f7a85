"""A host's metadata proxy, as a replica of the service meets it: signed requests in the name of guests."""

from __future__ import annotations

from typing import Protocol

import httpx

from metadata.proof import host_key
from net_agent.metadata_proxy.signing import signature


class Known(Protocol):
    """How a proxy knows a guest."""

    @property
    def network(self) -> str: ...
    @property
    def address(self) -> str: ...


class Proxy:
    """`address`: of the replica. `master`: what hosts' keys derive from."""

    def __init__(self, address: str, master: bytes, host: str, client: httpx.AsyncClient) -> None:
        self.url, self._key, self._host, self._client = f"http://{address}", host_key(master, host), host, client

    async def ask(
        self,
        path: str,
        guest: Known,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        *,
        address: str = "",
        network: str = "",
        body: bytes = b"",
    ) -> httpx.Response:
        network, address = network or guest.network, address or guest.address
        proof = {
            "X-Cirra-Host": self._host,
            "X-Cirra-Network": network,
            "X-Cirra-Address": address,
            "X-Cirra-Signature": signature(self._key, self._host, network, address, method, path),
        }
        return await self._client.request(method, self.url + path, headers=proof | (headers or {}), content=body)
