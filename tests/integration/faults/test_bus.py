"""The shuffler: each fault is seen at the far end of the stream, none unasked, and nothing is lost for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from cirra.agent.v1.desired_pb2 import Report
from core.bus import Bus, PullLoop, Received, connect, publish_report
from core.bus.streams import ensure_report_consumer
from core.testing.faults.bus import Shuffle, Shuffler, redelivered
from core.testing.servers import Cell

COUNT = 40


@pytest.fixture
async def publishers(cell: Cell) -> AsyncIterator[Bus]:
    bus = await connect(cell.nats_url, cell=cell.name, name="publisher", credentials=cell.credentials)
    yield bus
    await bus.close()


class Arrivals:
    """What a consumer of REPORTS has got, in order: (sequence of the report, delivery)."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.subjects: set[str] = set()
        self._news = asyncio.Event()

    async def __call__(self, received: Received) -> None:
        self.numbers.append(received.decode(Report).sequence)
        self.subjects.add(received.subject)
        self._news.set()

    async def until(self, count: int) -> list[int]:
        async with asyncio.timeout(60):
            while len(self.numbers) < count:
                self._news.clear()
                await self._news.wait()
        return self.numbers


@asynccontextmanager
async def arriving(bus: Bus, *, withheld: int = 0) -> AsyncIterator[Arrivals]:
    await ensure_report_consumer(bus, "test")
    arrivals = Arrivals()
    loop = PullLoop(bus, bus.subjects.reports_stream, "test", redelivered(arrivals, withheld))
    task = asyncio.create_task(loop.run())
    try:
        yield arrivals
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(bus: Bus, count: int = COUNT, *, apart_s: float = 0.0) -> None:
    """Reports 1 to `count`, each acknowledged before the next unless they are apart by a time."""
    sending = []
    for number in range(1, count + 1):
        report = Report(host="h1", agent="net", kind="port", object_id="p", sequence=number)
        sending.append(asyncio.create_task(publish_report(bus, "h1", "net", "PortObserved", f"p{number % 4}", report)))
        if apart_s:
            await asyncio.sleep(apart_s)
        else:
            await sending[-1]
    await asyncio.gather(*sending)


def shuffler(bus: Bus, shuffle: Shuffle) -> Shuffler:
    return Shuffler(bus, bus.subjects.reports_stream, shuffle, random=Random(7))


async def test_without_a_fault_all_is_as_without_a_shuffler(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals:
        async with shuffler(bus, Shuffle()) as it:
            await publish(publishers)
            assert await arrivals.until(COUNT) == list(range(1, COUNT + 1))
        assert not any(it.done.values())
        await publish(publishers)
        await arrivals.until(2 * COUNT)
        assert arrivals.numbers[COUNT:] == list(range(1, COUNT + 1))
    assert arrivals.subjects == {bus.subjects.reports("h1", "net", "PortObserved", f"p{n}") for n in range(4)}
    config = (await bus.js.stream_info(bus.subjects.reports_stream)).config
    assert (config.subjects, config.subject_transform) == ([bus.subjects.all_reports], None)


async def test_copies_come_after_what_followed_the_original(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals, shuffler(bus, Shuffle(twice=0.5)) as it:
        await publish(publishers)
        copies = it.done["twice"]
        assert 0 < copies < COUNT
        numbers = await arrivals.until(COUNT + copies)
    assert set(numbers) == set(range(1, COUNT + 1))
    assert numbers != sorted(numbers)


async def test_an_outdated_copy_comes_right_after_what_is_newer(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals:
        async with shuffler(bus, Shuffle(outdated=1.0)) as it:
            await publish(publishers, 8)
            # Four objects, in turn: 5 comes after 1, then 1 again.
            numbers = list(await arrivals.until(12))
        assert [number for number in numbers if number % 4 == 1] == [1, 5, 1]
        await arrivals.until(16)
    assert it.done["outdated"] == 8


async def test_late_messages_are_late(bus: Bus, publishers: Bus) -> None:
    clock = asyncio.get_running_loop().time
    async with arriving(bus) as arrivals, shuffler(bus, Shuffle(late=1.0, late_s=0.4)) as it:
        began = clock()
        await publish(publishers, 1)
        await arrivals.until(1)
        assert clock() - began >= 0.2
        assert it.done["late"] == 1


async def test_overtaken_messages_come_in_another_order(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals, shuffler(bus, Shuffle(overtaken=0.3)) as it:
        await publish(publishers, apart_s=0.002)
        numbers = await arrivals.until(COUNT)
    assert it.done["overtaken"]
    assert sorted(numbers) == list(range(1, COUNT + 1))
    assert numbers != sorted(numbers)


async def test_what_is_lost_on_its_way_is_sent_again_and_counts_once(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals, shuffler(bus, Shuffle(lost=0.5, unanswered=0.5)) as it:
        await publish(publishers, 4, apart_s=0.002)
        numbers = await arrivals.until(4)
        assert it.done["lost"]
        assert it.done["unanswered"]
    assert sorted(numbers) == [1, 2, 3, 4]
    assert (await bus.js.stream_info(bus.subjects.reports_stream)).state.last_seq == 4


async def test_only_some_subjects_are_concerned(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals:
        shuffle = Shuffle(twice=1.0, concerns=lambda subject: subject.endswith("p1"))
        async with shuffler(bus, shuffle) as it:
            await publish(publishers, 4)
        assert sorted(await arrivals.until(5)) == [1, 1, 2, 3, 4]
    assert it.done["twice"] == 1


async def test_what_is_held_passes_at_the_end(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus) as arrivals:
        async with shuffler(bus, Shuffle(late=1.0, late_s=60.0)):
            sending = asyncio.create_task(publish(publishers, 1))
            await asyncio.wait((sending,), timeout=0.2)
            assert not sending.done()
        await sending
        assert await arrivals.until(1) == [1]


async def test_a_withheld_acknowledgement_brings_the_message_again(bus: Bus, publishers: Bus) -> None:
    async with arriving(bus, withheld=1) as arrivals:
        await publish(publishers, 3)
        assert sorted(await arrivals.until(6)) == [1, 1, 2, 2, 3, 3]
