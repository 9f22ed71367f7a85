"""Answers every request with a file's content, from memory, over TLS: `_static_server CERT KEY AUTHORITY FILE`.

Prints its port on 127.0.0.1, and serves until it is ended. HTTP/1.1 with keep-alive, as far as our proxies need it.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path


async def serve(certificate: str, key: str, authority: str, body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(authority)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4], Path(sys.argv[4]).read_bytes()))
