"""TCP connections of tiny guests that stay open, and one that never has enough.

One end beats: it sends the time of its own clock, again and again. The other end says again what it hears. So what has
come back last tells until when packets passed, both ways; nobody's patience is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.e2e.network.guests import Guest
from tests.e2e.network.ways_out import until

BEAT_S = 0.2
# A beat that is not back after so long does not come: of the guest's clock.
_SILENT_S = 5.0
# What is promised of a change (from the request to what packets do), and how often a busy machine may be late.
_SOON_S, _TIMES = 1.0, 5
# For a connection that nobody lets in, in seconds: the first SYN and two more (RFC 6298).
_IN_VAIN_S = 5
_FOLDER = "/run/streams"
_BEATING = """
mkdir -p {folder} && cd {folder} || exit 1
beat() {{ while :; do read -r now _ </proc/uptime; echo $now; usleep {pause_us}; done; }}
(beat | nc {address} {port} >heard) >/dev/null 2>&1 </dev/null &
"""


@dataclass(frozen=True, slots=True)
class Beats:
    """In seconds of the guest's clock. `heard`: the last that came back, 0: none."""

    heard: float
    now: float


@dataclass(frozen=True, slots=True)
class Stream:
    """A connection from this guest, until the guest ends."""

    guest: Guest
    folder: str

    async def look(self) -> Beats:
        # Before the first one there is nothing, hence the zero.
        told = await self.guest.run(f"echo 0$(tail -n 1 {self.folder}/heard) $(cat /proc/uptime)")
        heard, now, _ = map(float, told.split())
        return Beats(heard, now)

    async def goes_on(self) -> None:
        """Returns once a beat of later than this moment is back."""
        since = (await self.look()).now

        async def is_back() -> bool:
            return (await self.look()).heard > since

        await until(is_back, f"beats of {self.folder} of {self.guest.instance.display_name}")

    async def ends(self) -> float:
        """Returns when the last beat was that came back, once none does."""

        async def silent() -> bool:
            seen = await self.look()
            return seen.now - seen.heard > _SILENT_S

        await until(silent, f"the end of {self.folder} of {self.guest.instance.display_name}")
        return (await self.look()).heard


async def ends_soon(
    stream: Stream, what: str, change: Callable[[], Awaitable[None]], undo: Callable[[], Awaitable[None]]
) -> float:
    """Returns when the last beat was that came back, once a change has ended it within a second.

    A machine that is busy delays one change or another, and then it is made again; were the cloud late, all would be.
    """
    took: list[float] = []
    for _ in range(_TIMES):
        if took:
            await undo()
            await stream.goes_on()
        before = (await stream.look()).now
        await change()
        last = await stream.ends()
        # An upper bound: the question's own way to the guest is in it, and the request.
        took.append(last + BEAT_S - before)
        if took[-1] <= _SOON_S:
            break
    told = ", ".join(f"{each:.2f}" for each in took)
    print(f"{what}: in effect at most {told} s after it was asked for")
    assert took[-1] <= _SOON_S, f"{what}: never in effect within {_SOON_S:g} s: {told}"
    return last


async def listen(guest: Guest, *ports: int, command: str = "cat") -> None:
    """With one who says again what he hears, or another command, for each connection; until the guest ends."""
    for port in ports:
        await guest.run(f"nc -ll -p {port} -e {command} >/dev/null 2>&1 </dev/null &")
        await guest.run(f"until netstat -l -t -n | grep -q ':{port} '; do usleep 100000; done")


async def connect(guest: Guest, name: str, address: str, port: int) -> Stream:
    """Open, and beating."""
    stream = Stream(guest, f"{_FOLDER}/{name}")
    await guest.run(_BEATING.format(folder=stream.folder, address=address, port=port, pause_us=int(BEAT_S * 1_000_000)))
    await stream.goes_on()
    return stream


async def is_let_in(guest: Guest, address: str, port: int) -> bool:
    """By one attempt."""
    return (await guest.ended(f"nc -w {_IN_VAIN_S} {address} {port} </dev/null >/dev/null 2>&1")).code == 0


async def comes_to_be_let_in(guest: Guest, address: str, port: int) -> None:
    await until(lambda: is_let_in(guest, address, port), f"{guest.instance.display_name} to {address} port {port}")


async def comes_to_be_refused(guest: Guest, address: str, port: int) -> None:
    async def refused() -> bool:
        return not await is_let_in(guest, address, port)

    await until(refused, f"{guest.instance.display_name} no more to {address} port {port}")


@asynccontextmanager
async def flood(guest: Guest, address: str, port: int) -> AsyncIterator[None]:
    """As much as passes, to where somebody listens, within."""
    await guest.run(f"nc {address} {port} </dev/zero >/dev/null 2>&1 & echo $! >/run/flood")
    try:
        yield
    finally:
        await guest.run("kill $(cat /run/flood)")


async def received_kbps(guest: Guest, seconds: int) -> float:
    """What comes by the guest's first NIC, frames' heads included, in 1,000 bits a second of its own clock."""
    look = "echo $(cat /sys/class/net/eth0/statistics/rx_bytes /proc/uptime)"
    told = (await guest.run(f"{look}; sleep {seconds}; {look}")).splitlines()
    (first, began, _), (last, ended, _) = (map(float, line.split()) for line in told)
    return (last - first) * 8 / 1_000 / (ended - began)
