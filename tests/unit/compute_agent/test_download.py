"""Downloading an image: in ranges, resumed, verified."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from cirra.agent.v1.desired_pb2 import ImageRef
from cirra.agent.v1.host_pb2 import GetImageDownloadResponse
from compute_agent.images.download import ImageDownloader
from core.agent.handler import AgentFailure
from core.errors import PermissionDenied, Unavailable

BLOB = bytes(range(256)) * 4096
IMAGE = ImageRef(image_id="i1", sha256=hashlib.sha256(BLOB).hexdigest(), size_bytes=len(BLOB), disk_format="raw")

Answer = Callable[[httpx.Request, int], httpx.Response]


class Server:
    """Serves `BLOB` by ranges; `answers` come first, one for each request."""

    def __init__(self) -> None:
        self.blob = BLOB
        self.answers: list[Answer] = []
        self.ranges: list[str] = []
        self.tickets = 0
        self.ticket_errors: list[Exception] = []

    async def ticket(self, image_id: str) -> GetImageDownloadResponse:
        assert image_id == "i1"
        if self.ticket_errors:
            raise self.ticket_errors.pop(0)
        self.tickets += 1
        return GetImageDownloadResponse(url="https://gateway/blob", ticket=f"t{self.tickets}")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == f"Bearer t{self.tickets}"
        wanted = request.headers.get("Range", "")
        self.ranges.append(wanted)
        offset = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if self.answers:
            return self.answers.pop(0)(request, offset)
        return self.rest(offset)

    def rest(self, offset: int) -> httpx.Response:
        headers = {"Content-Range": f"bytes {offset}-{len(self.blob) - 1}/{len(self.blob)}"}
        return httpx.Response(206 if offset else 200, content=self.blob[offset:], headers=headers)

    def broken_off_after(self, count: int) -> Answer:
        async def part(offset: int) -> AsyncIterator[bytes]:
            yield self.blob[offset : offset + count]
            raise httpx.ReadError("cut")

        return lambda _, offset: httpx.Response(
            206 if offset else 200,
            content=part(offset),
            headers={"Content-Range": f"bytes {offset}-{len(self.blob) - 1}/{len(self.blob)}"},
        )


@pytest.fixture
def server() -> Server:
    return Server()


async def download(server: Server, target: Path, *, patience_s: float = 5.0, image: ImageRef = IMAGE) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as client:
        downloader = ImageDownloader(server.ticket, client, patience_s=patience_s, retry_delays_s=[0.001])
        await downloader.download(image, target)


async def failure(server: Server, target: Path, *, patience_s: float = 5.0) -> AgentFailure:
    with pytest.raises(AgentFailure) as caught:
        await download(server, target, patience_s=patience_s)
    return caught.value


async def test_whole(server: Server, tmp_path: Path) -> None:
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB
    assert server.ranges == [""]


async def test_a_transfer_that_breaks_goes_on_where_it_was_with_a_new_ticket(server: Server, tmp_path: Path) -> None:
    server.answers = [server.broken_off_after(300_000), server.broken_off_after(200_000)]
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB
    assert server.ranges == ["", "bytes=300000-", "bytes=500000-"]
    assert server.tickets == 3


async def test_what_an_earlier_attempt_left_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BLOB[:1000])
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB
    assert server.ranges == ["bytes=1000-"]


async def test_what_a_crash_spoilt_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"\0" * 1000)
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB
    assert server.ranges == ["bytes=1000-", ""]


async def test_a_server_without_ranges_sends_it_from_the_beginning(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BLOB[:1000])
    server.answers = [lambda _request, _offset: httpx.Response(200, content=BLOB)]
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB


async def test_an_expired_ticket_and_a_server_in_trouble_are_tried_again(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda _request, _offset, code=code: httpx.Response(code) for code in (401, 503)]  # type: ignore[misc]
    server.ticket_errors = [Unavailable("the conductor is away")]
    await download(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == BLOB


async def test_other_bytes_are_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.blob = BLOB[:-1] + b"!"
    told = await failure(server, tmp_path / "part")
    assert told.reason == "IMAGE_CHECKSUM_MISMATCH"
    assert not told.retryable
    assert not (tmp_path / "part").exists()


async def test_more_bytes_than_promised_are_refused(server: Server, tmp_path: Path) -> None:
    server.blob = BLOB + BLOB
    told = await failure(server, tmp_path / "part")
    assert told.reason == "IMAGE_DOWNLOAD_FAILED"
    assert (tmp_path / "part").stat().st_size <= len(BLOB)


async def test_another_range_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BLOB[:1000])
    server.answers = [
        lambda _request, _offset: httpx.Response(206, content=BLOB, headers={"Content-Range": "bytes 0-9/10"})
    ]
    assert (await failure(server, tmp_path / "part")).reason == "IMAGE_DOWNLOAD_FAILED"


async def test_an_image_that_is_gone_or_not_ours_is_an_answer(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda _request, _offset: httpx.Response(404)]
    assert "404" in (await failure(server, tmp_path / "part")).message
    server.ticket_errors = [PermissionDenied("no guest of h1 is made of it")]
    assert "no guest of h1" in (await failure(server, tmp_path / "part")).message


async def test_patience_ends_and_what_there_is_stays(server: Server, tmp_path: Path) -> None:
    server.answers = [server.broken_off_after(500)]
    server.answers += [lambda _request, _offset: httpx.Response(503)] * 5000
    told = await failure(server, tmp_path / "part", patience_s=0.1)
    assert (told.reason, told.retryable, told.reschedule) == ("IMAGE_DOWNLOAD_FAILED", True, True)
    assert (tmp_path / "part").read_bytes() == BLOB[:500]
