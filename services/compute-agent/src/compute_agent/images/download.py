"""Downloading an image: by HTTP range (RFC 9110, section 14), resumed after breaks, verified on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx
import structlog

from cirra.agent.v1.desired_pb2 import ImageRef
from cirra.agent.v1.host_pb2 import GetImageDownloadResponse
from compute_agent.errors import image_checksum_mismatch, image_download_failed
from core.agent.handler import AgentFailure
from core.errors import CirraError

_CHUNK_BYTES = 1 << 20
_RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
# A ticket that has expired, or a server in trouble: ask again. Everything else above 400 is an answer.
_RETRYABLE_STATUS = frozenset({401, 403, 408, 425, 429, 500, 502, 503, 504})

log = structlog.get_logger(__name__)

GetTicket = Callable[[str], Awaitable[GetImageDownloadResponse]]
"""The conductor's ticket for the bytes of an image, by its id."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Interrupted(Exception):
    """The transfer broke off and may go on from where it is."""


class ImageDownloader:
    """Fetches images with tickets. `patience_s`: how long it goes on without a single new octet."""

    def __init__(
        self,
        get_ticket: GetTicket,
        client: httpx.AsyncClient,
        *,
        patience_s: float = 120.0,
        retry_delays_s: Sequence[float] = _RETRY_DELAYS_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get_ticket = get_ticket
        self._client = client
        self._patience_s = patience_s
        self._retry_delays_s = retry_delays_s
        self._monotonic = monotonic

    async def download(self, image: ImageRef, target: Path) -> None:
        """Makes `target` the bytes of `image`; what is in it already is the beginning of an earlier attempt.

        After it the file has the right SHA-256 and is not yet synced. Raises `AgentFailure`
        IMAGE_CHECKSUM_MISMATCH (the file is gone then) or IMAGE_DOWNLOAD_FAILED (it stays, to go on from).
        """
        resumed = _is_begun(target)
        try:
            await self._attempt(image, target)
        except CirraError as error:
            # After a crash of the host the end of a partial file may be anything.
            if not (resumed and error.reason == "IMAGE_CHECKSUM_MISMATCH"):
                raise
            await self._attempt(image, target)

    async def _attempt(self, image: ImageRef, target: Path) -> None:
        with target.open("a+b") as file:
            digest: _Hash = hashlib.sha256()
            await asyncio.to_thread(_read_into, file, digest)
            while file.tell() < image.size_bytes:
                digest = await self._fetch_patiently(image, file, digest)
            actual = digest.hexdigest()
            if actual != image.sha256:
                os.unlink(target)
                raise image_checksum_mismatch(image.sha256, actual)

    async def _fetch_patiently(self, image: ImageRef, file: BinaryIO, digest: _Hash) -> _Hash:
        """One transfer, repeated until it brought something; the digest of what the file now holds."""
        deadline = self._monotonic() + self._patience_s
        attempt = 0
        while True:
            before = file.tell()
            try:
                return await self._fetch(image, file, digest)
            except AgentFailure:
                raise
            except (_Interrupted, httpx.TransportError, CirraError) as error:
                if isinstance(error, CirraError) and not error.retryable:
                    raise image_download_failed(str(error)) from error
                if file.tell() > before:
                    return digest
                log.warning("image download interrupted", image_id=image.image_id, error=repr(error))
                if self._monotonic() > deadline:
                    raise image_download_failed(repr(error)) from error
            await asyncio.sleep(self._retry_delays_s[min(attempt, len(self._retry_delays_s) - 1)])
            attempt += 1

    async def _fetch(self, image: ImageRef, file: BinaryIO, digest: _Hash) -> _Hash:
        ticket = await self._get_ticket(image.image_id)
        headers = {"Authorization": f"Bearer {ticket.ticket}", "Accept-Encoding": "identity"}
        if offset := file.tell():
            headers["Range"] = f"bytes={offset}-"
        async with self._client.stream("GET", ticket.url, headers=headers) as response:
            if response.status_code in _RETRYABLE_STATUS:
                raise _Interrupted(f"HTTP {response.status_code}")
            if response.status_code not in (200, 206):
                raise image_download_failed(f"HTTP {response.status_code}")
            if response.status_code == 206:
                _require_range(response.headers.get("Content-Range", ""), offset)
            elif offset:
                file.seek(0)
                file.truncate()
                digest = hashlib.sha256()
            async for chunk in response.aiter_bytes():
                if file.tell() + len(chunk) > image.size_bytes:
                    raise image_download_failed(f"the server sends more than {image.size_bytes} bytes")
                await asyncio.to_thread(_append, file, digest, chunk)
        return digest


def _require_range(content_range: str, offset: int) -> None:
    if not content_range.startswith(f"bytes {offset}-"):
        raise image_download_failed(f"asked for bytes from {offset}, got {content_range!r}")


def _is_begun(target: Path) -> bool:
    return target.exists() and target.stat().st_size > 0


def _append(file: BinaryIO, digest: _Hash, chunk: bytes) -> None:
    file.write(chunk)
    digest.update(chunk)


def _read_into(file: BinaryIO, digest: _Hash) -> None:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
