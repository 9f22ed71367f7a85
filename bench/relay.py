"""How fast the relay takes the log to stream EVENTS.

    python -m bench.relay [--events N]

Own servers, nothing else on them: Postgres with fsync, nats-server as it comes, one replica. A backlog of N events
of 300 bytes is drained by `core.relay.Relay`, as it is after an outage; the best of three rounds. Baseline, in the
same run: each event published with the same headers and expectation, its acknowledgement awaited before the next.
Also: the time from the end of an append to the event's arrival at a subscriber of the stream's subject, idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.js.api import Header

from core.bus import Bus, connect, ensure_streams
from core.bus.envelope import event_headers, event_subject
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import Append, Context, EventLog, Leases, NewEvent
from core.relay import Relay

PAYLOAD_BYTES = 300
APPEND_OF = 1000
BASELINE_EVENTS = 3_000
LATENCY_SAMPLES = 300
ROUNDS = 3


def new_event() -> NewEvent:
    return NewEvent(
        aggregate_type="instance",
        aggregate_id=uuid4(),
        version=1,
        type="cirra.compute.v1.InstanceCreated",
        data=os.urandom(PAYLOAD_BYTES),
        event_id=uuid4(),
    )


async def append(log: EventLog, count: int) -> int:
    """Appends so many events; returns the last position."""
    context = Context(actor="users/bench", request_id=str(uuid4()), correlation_id=str(uuid4()))
    appended = await log.append(Append(tuple(new_event() for _ in range(count)), context=context))
    return appended.last_position


@asynccontextmanager
async def relaying(log: EventLog, bus: Bus, refill: int) -> AsyncIterator[Relay]:
    relay = Relay(log, Leases(log.pool, log.schema), bus, holder="bench", refill=refill)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_stored(bus: Bus, position: int) -> None:
    while (await bus.js.stream_info(bus.subjects.events_stream)).state.last_seq < position:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def drain(log: EventLog, bus: Bus, head: int) -> float:
    """Events per second from an empty stream to the head; includes taking the lease."""
    await bus.js.delete_stream(bus.subjects.events_stream)
    await ensure_streams(bus)
    began = time.perf_counter()
    async with relaying(log, bus, refill=head):
        await until_stored(bus, head)
    return head / (time.perf_counter() - began)


async def one_by_one(log: EventLog, bus: Bus, count: int) -> float:
    await bus.js.delete_stream(bus.subjects.events_stream)
    await ensure_streams(bus)
    began = time.perf_counter()
    position = 0
    while position < count:
        for event in await log.read(after=position, limit=min(1000, count - position)):
            headers = event_headers(bus.cell, event)
            headers[Header.EXPECTED_LAST_SEQUENCE.value] = str(event.position - 1)
            await bus.js.publish(event_subject(bus.cell, event), event.data, headers=headers)
            position = event.position
    return count / (time.perf_counter() - began)


async def latencies_ms(log: EventLog, bus: Bus) -> list[float]:
    """From the return of an append to the arrival of its event at a subscriber."""
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def arrive(message: Msg) -> None:
        await arrived.put(time.perf_counter())

    samples = []
    head = (await log.head()).position
    async with relaying(log, bus, refill=head):
        await until_stored(bus, head)
        subscription = await bus.subscribe(bus.subjects.all_events, arrive)
        for _ in range(LATENCY_SAMPLES):
            await append(log, 1)
            appended = time.perf_counter()
            samples.append(max(0.0, (await arrived.get()) - appended) * 1000)
        await subscription.unsubscribe()
    return samples


async def measure(events: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedPostgres(Path(folder) / "postgres") as postgres,
            EmbeddedNats(Path(folder) / "nats") as nats,
        ):
            log = await EventLog.open(postgres.dsn, schema="bench_log")
            bus = await connect(nats.url, cell="bench", name="bench")
            await ensure_streams(bus)
            head = 0
            while head < events:
                head = await append(log, min(APPEND_OF, events - head))
            baseline = await one_by_one(log, bus, BASELINE_EVENTS)
            rates = [await drain(log, bus, head) for _ in range(ROUNDS)]
            latency = sorted(await latencies_ms(log, bus))
            await bus.close()
            await log.close()
    return {
        "bench": "relay",
        "baseline": {"one_by_one_per_s": round(baseline)},
        "figures": {
            "per_s": round(max(rates)),
            "rounds_per_s": [round(rate) for rate in rates],
            "events": events,
            "latency_ms_p50": round(statistics.median(latency), 2),
            "latency_ms_p99": round(latency[int(len(latency) * 0.99)], 2),
        },
        "ratio": round(max(rates) / baseline, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(json.dumps(asyncio.run(measure(arguments.events))))


if __name__ == "__main__":
    main()
