"""What a change of a network costs the control plane, and how long a host takes to follow it.

    python -m bench.network_converge [--ports N] [--hosts N] [--others N]

First `bench._port_wired`: from a port's creation to its being wired on a real host. Then commands sent, and CPU, from
the log to the hosts' commands:

Own servers, nothing else on them. N ports of one VXLAN network are on HOSTS simulated hosts: their bindings are
appended as sagas do, the relay, the projection `conductor-fabric` and its teller do the rest, and a command for each
object and host lies in JetStream. Then ports come one by one, on hosts that have the network. Measured twice: alone,
and beside OTHERS hosts with networks and as many ports of their own. The ratio of both is what the hosts cost that have
nothing to do with it; 1 is nothing. CPU is that of this process (relay, projection, teller) and of Postgres and NATS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import structlog
from google.protobuf.message import Message

from bench._port_wired import Spread
from bench._port_wired import measure as measure_wired
from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import network_pb2 as public
from cirra.placement.v1 import events_pb2 as placement
from cirra.placement.v1.placement_pb2 import Inventory
from conductor.fabric.projection import FabricProjection
from conductor.fabric.teller import Teller
from core.bus import Bus, connect, ensure_streams
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.eventlog import Append, EventLog, Leases, NewEvent
from core.ids import host_aggregate_id
from core.projection import Projector
from core.relay import Relay

# One round is off by a tenth now and then: some work of Postgres falls into it.
CHANGES, ROUNDS = 100, 3
APPEND_OF = 500
PATIENCE_S = 600.0
QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one port that comes to a network that is there: commands, CPU and time from its append to the last command."""

    messages: float
    cpu_ms: float
    median_ms: float


@dataclass
class Cloud:
    """The parts of a control plane that a change of a network goes through."""

    log: EventLog
    bus: Bus
    projector: Projector

    async def append(self, events: list[NewEvent]) -> int:
        position = 0
        for begin in range(0, len(events), APPEND_OF):
            appended = await self.log.append(Append(events=tuple(events[begin : begin + APPEND_OF])))
            position = appended.last_position
        if not await self.projector.wait_for(position, PATIENCE_S):
            raise SystemExit(f"the projection did not reach {position}")
        return position

    async def sent(self) -> int:
        """Commands stored so far."""
        return int((await self.bus.js.stream_info(self.bus.subjects.commands_stream)).state.last_seq)

    async def until_sent(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.sent() < count:  # noqa: ASYNC110 - a server is asked, nobody tells
                await asyncio.sleep(0.002)

    def cpu_s(self) -> float:
        """Of this process and of the servers, its children."""
        total = time.process_time()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


def event(aggregate_type: str, aggregate_id: UUID, version: int, message: Message) -> NewEvent:
    return NewEvent(
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        version=version,
        type=message.DESCRIPTOR.full_name,
        data=message.SerializeToString(),
        event_id=uuid4(),
    )


def hosts(prefix: str, count: int) -> Iterator[NewEvent]:
    for number in range(count):
        name = f"{prefix}{number}"
        uid = host_aggregate_id(name)
        inventory = Inventory(tunnel_address=f"192.0.{number // 250}.{number % 250 + 1}")
        yield event("host", uid, 1, placement.HostEnrolled(host=name))
        yield event("host", uid, 2, placement.HostInventoryChanged(host=name, inventory=inventory))


def new_network(number: int) -> tuple[UUID, NewEvent]:
    uid = uuid4()
    kind = public.NETWORK_TYPE_VXLAN
    return uid, event("network", uid, 1, network.NetworkCreated(type=kind, mtu=1450, segmentation_id=number))


def bound(network_id: UUID, host: str, number: int) -> NewEvent:
    uid = uuid4()
    port = agent.PortSpec(
        port_id=str(uid),
        mac_address=f"fa:16:3e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        hostname=f"guest-{number}",
        network=agent.NetworkSpec(network_id=str(network_id)),
        addresses=[agent.PortAddress(ip_address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")],
    )
    desired = agent.DesiredObject(host=host, agent="net", kind="port", object_id=str(uid), generation=1, port=port)
    state = public.PORT_BINDING_STATE_ACTIVE
    return event("port", uid, 1, network.PortBindingDesired(host=host, state=state, desired=desired))


async def cost_of_rounds(cloud: Cloud, network_id: UUID, having: int, first: int) -> Cost:
    """The medians of some."""
    found = [await cost_of_changes(cloud, network_id, having, first + CHANGES * number) for number in range(ROUNDS)]
    return Cost(
        statistics.median(each.messages for each in found),
        statistics.median(each.cpu_ms for each in found),
        statistics.median(each.median_ms for each in found),
    )


async def cost_of_changes(cloud: Cloud, network_id: UUID, having: int, first: int) -> Cost:
    """Of ports that come one after the other: each is a peer for all hosts but its own."""
    durations, before, cpu = [], await cloud.sent(), cloud.cpu_s()
    for number in range(CHANGES):
        expected = await cloud.sent() + having - 1
        began = time.perf_counter()
        await cloud.append([bound(network_id, f"h{number % having}", first + number)])
        await cloud.until_sent(expected)
        durations.append((time.perf_counter() - began) * 1000)
    messages = (await cloud.sent() - before) / CHANGES
    return Cost(messages, (cloud.cpu_s() - cpu) * 1000 / CHANGES, statistics.median(durations))


async def opened(stack: AsyncExitStack, folder: Path) -> Cloud:
    postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
    nats = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
    log = await EventLog.open(postgres.dsn, schema="bench_log")
    stack.push_async_callback(log.close)
    bus = await connect(nats.url, cell="bench", name="bench")
    stack.push_async_callback(bus.close)
    await ensure_streams(bus)
    leases, teller = Leases(log.pool, log.schema), Teller(bus)
    projector = Projector(
        FabricProjection(teller), log=log, bus=bus, leases=leases, schema="bench_conductor", holder="bench"
    )
    await projector.prepare()
    for run in (Relay(log, leases, bus, holder="bench").run(), projector.run(), teller.run()):
        stack.push_async_callback(_ended, asyncio.create_task(run))
    return Cloud(log, bus, projector)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def measure(ports: int, having: int, others: int, wired: Mapping[str, Spread]) -> dict[str, object]:
    async with AsyncExitStack() as stack:
        cloud = await opened(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        network_id, made = new_network(1)
        await cloud.append([made, *hosts("h", having)])
        began, cpu = time.perf_counter(), cloud.cpu_s()
        await cloud.append([bound(network_id, f"h{number % having}", number) for number in range(ports)])
        # On each host: the network, and every port that is not its own.
        whole = having + ports * (having - 1)
        await quiet(cloud)
        filled_s, filled_cpu_s = time.perf_counter() - began - QUIET_S, cloud.cpu_s() - cpu
        alone = await cost_of_rounds(cloud, network_id, having, ports)
        elsewhere = [*hosts("o", others)]
        for number in range(max(1, others // 10)):
            other_id, made = new_network(number + 2)
            elsewhere.append(made)
            for each in range(10 * ports // max(1, others) or 1):
                elsewhere.append(bound(other_id, f"o{(10 * number + each) % others}", 100_000 + 64 * number + each))
        await cloud.append(elsewhere)
        await quiet(cloud)
        beside = await cost_of_rounds(cloud, network_id, having, ports + ROUNDS * CHANGES)
    return {
        "bench": "network-converge",
        "baseline": {"messages": alone.messages, "cpu_ms": round(alone.cpu_ms, 1), "ms": round(alone.median_ms, 1)}
        | {"plug_ms": wired["plug"].p50},
        "figures": {
            "wired_p50_ms": wired["one"].p50,
            "wired_p99_ms": wired["one"].p99,
            "burst_wired_p50_ms": wired["burst"].p50,
            "burst_wired_p99_ms": wired["burst"].p99,
            "messages": beside.messages,
            "cpu_ms": round(beside.cpu_ms, 1),
            "ms": round(beside.median_ms, 1),
            "filled_s": round(filled_s, 1),
            "filled_cpu_s": round(filled_cpu_s, 1),
            "filled_objects": whole,
        },
        "ratio": {
            "messages": round(beside.messages / alone.messages, 3),
            "cpu": round(beside.cpu_ms / alone.cpu_ms, 2),
            "wired": round(wired["one"].p50 / wired["plug"].p50, 2),
        },
    }


async def quiet(cloud: Cloud) -> int:
    """Once nothing more is sent: how many commands there are."""
    count = -1
    while count != (count := await cloud.sent()):  # noqa: ASYNC110 - nobody tells that nothing happens
        await asyncio.sleep(QUIET_S)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--others", type=int, default=1000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    wired = asyncio.run(measure_wired())
    print({name: f"{each.p50} ms, {each.p99} ms at most of 99 %" for name, each in wired.items()}, file=sys.stderr)
    print(json.dumps(asyncio.run(measure(options.ports, options.hosts, options.others, wired))))


if __name__ == "__main__":
    main()
