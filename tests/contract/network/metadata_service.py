"""A metadata service as the proxy meets it: HTTP(S), demanding the host's certificate, noting what it is asked."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import h11

from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from net_agent.drivers.linux.proxy import ProxyIdentity


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class MetadataService:
    """Answers every question with `answer`. connections: how many were made."""

    answer: bytes = b"i-00000001"
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        http = h11.Connection(h11.SERVER)
        try:
            while http.our_state is h11.IDLE and await self._exchange(http, reader, writer):
                http.start_next_cycle()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _exchange(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request, body = None, bytearray()
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return False
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        self.asked.append(Asked(request.method.decode(), request.target.decode(), headers, bytes(body)))
        length = [("Content-Length", str(len(self.answer))), ("X-Metadata", "yes")]
        writer.write(http.send(h11.Response(status_code=200, reason=b"OK", headers=length)) or b"")
        if request.method != b"HEAD":
            writer.write(http.send(h11.Data(data=self.answer)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return http.their_state is h11.DONE and http.our_state is h11.DONE


def make_identities(
    folder: Path, host: str, metadata_url: str, signing_key: Path
) -> tuple[ssl.SSLContext, ProxyIdentity]:
    """The service's side of TLS, which demands a certificate of the same authority, and a host that has one."""
    authority = Authority.create(folder / "ca")
    service = authority.issue_server("metadata", [], folder / "service")
    key, request = new_key_and_request(Identity.host(host))
    certificate = authority.sign_csr(request, Identity.host(host))
    own = TlsFiles.write(folder / "host", authority.certificate_pem, certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(service.certificate, service.key)
    context.load_verify_locations(service.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context, ProxyIdentity(host, metadata_url, own.certificate, own.key, own.authority, signing_key)
