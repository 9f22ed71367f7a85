"""A cancellation that a library swallows is not lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core.bus.client import cancellation_kept, encode_headers


async def test_a_swallowed_cancellation_is_raised_again() -> None:
    began = asyncio.Event()

    async def swallows() -> None:
        with suppress(asyncio.CancelledError):
            began.set()
            await asyncio.Event().wait()

    async def work() -> None:
        with cancellation_kept():
            await swallows()
        raise AssertionError("it ran on")

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_earlier_cancellation_does_not_keep_one_from_cleaning_up() -> None:
    cleaned = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with cancellation_kept():
                await asyncio.sleep(0)
            cleaned.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()


async def test_a_timeout_around_it_stays_a_timeout() -> None:
    async def swallows() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            with cancellation_kept():
                await swallows()


def test_headers_are_encoded_as_the_protocol_says() -> None:
    assert encode_headers({"a": "1", "b-c": "x y"}) == b"NATS/1.0\r\na: 1\r\nb-c: x y\r\n\r\n"


@pytest.mark.parametrize("value", ["x\r\nPUB evil 0", "x\ny", "x\ry", "é"])
def test_a_header_can_not_end_its_line(value: str) -> None:
    with pytest.raises(ValueError):
        encode_headers({"a": value})
