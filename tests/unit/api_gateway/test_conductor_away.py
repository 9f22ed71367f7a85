"""What the gateway says when the conductor says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import stamina

from api_gateway.conductor import Conductor
from cirra.compute.v1 import compute_pb2 as compute
from core.errors import DeadlineExceeded, Unavailable
from core.rpc.metadata import STATUS_DETAILS
from core.rpc.status import from_rpc_error, status_code, to_status


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    with stamina.set_testing(True):
        yield


async def _ask_of(code: grpc.StatusCode, words: str, *trailing: tuple[str, bytes]) -> None:
    """Ask a conductor whose every call fails so."""

    async def method(request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109
        failure = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), words)
        raise from_rpc_error(failure) from failure

    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        await Conductor(channel).ask(method, compute.CreateInstanceRequest())


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_silent_conductor_is_named_and_its_address_is_not(code: grpc.StatusCode) -> None:
    with pytest.raises(Unavailable, match="the conductor does not answer") as raised:
        await _ask_of(code, "failed to connect to ipv4:192.0.2.1:443")
    assert "192.0.2.1" not in raised.value.message
    assert raised.value.remedy and raised.value.retryable


@pytest.mark.parametrize("said", [Unavailable("the log is away"), DeadlineExceeded("the log is slow")])
async def test_what_the_conductor_says_is_passed_on(said: Unavailable | DeadlineExceeded) -> None:
    details = (STATUS_DETAILS, to_status(said).SerializeToString())
    with pytest.raises(type(said), match=said.message):
        await _ask_of(status_code(said), said.message, details)
