"""Uploads as no decent client makes them: announcing one thing, and sending another."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable

import grpc

from cirra.image.v1 import image_pb2 as pb
from cirra.image.v1.image_pb2_grpc import ImageServiceStub
from cirra_sdk.login import FixedToken
from cirra_sdk.state import Memory
from cirra_sdk.transport import Transport
from tests.harness.cloud import Tenant

CHUNK_BYTES = 64 * 1024


def header(image: pb.Image, data: bytes) -> pb.UploadImageHeader:
    """What is true of the data."""
    return pb.UploadImageHeader(name=image.name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def chunks(data: bytes) -> list[bytes]:
    return [data[begin : begin + CHUNK_BYTES] for begin in range(0, len(data), CHUNK_BYTES)]


async def upload(
    tenant: Tenant, announced: pb.UploadImageHeader | None, sent: Iterable[bytes], *, gateway: int = 0
) -> pb.Image:
    """Raises CirraApiError, as the SDK would."""
    address, client = tenant.cloud.plane.gateway_addresses[gateway], tenant.at(gateway)
    memory = Memory()
    memory.saw(client.position)
    async with grpc.aio.insecure_channel(address) as channel:
        transport = Transport(channel, address, memory, FixedToken(await client.access_token()))
        answer: pb.Image = await transport.upload(
            ImageServiceStub(channel).UploadImageData, lambda: _parts(announced, sent)
        )
        return answer


async def broken_off_upload(tenant: Tenant, announced: pb.UploadImageHeader, sent: Iterable[bytes]) -> None:
    """The connection goes after some of the data."""
    channel = grpc.aio.insecure_channel(tenant.cloud.plane.gateway_addresses[0])
    authorization = f"Bearer {await tenant.client.access_token()}"
    call = ImageServiceStub(channel).UploadImageData(metadata=(("authorization", authorization),))
    async for part in _parts(announced, sent):
        await call.write(part)
    await channel.close(grace=None)


async def _parts(
    announced: pb.UploadImageHeader | None, sent: Iterable[bytes]
) -> AsyncIterator[pb.UploadImageDataRequest]:
    if announced is not None:
        yield pb.UploadImageDataRequest(header=announced)
    for chunk in sent:
        yield pb.UploadImageDataRequest(chunk=chunk)
