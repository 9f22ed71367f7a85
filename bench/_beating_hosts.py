"""Hosts as the detector hears them: the heartbeats of all their agents, each at its own moment of the interval.

    python -m bench._beating_hosts URL TLS_FOLDER HOSTS

The heartbeats are the product's, by the product's own publisher; what is simulated is the rest of the host, and that
many share a connection. A process of its own: told `silence HOST…` on its standard input, these hosts stop, and it
answers with the moment (CLOCK_MONOTONIC, of which a machine has one); told `count`, with the heartbeats sent so far.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import structlog
import uvloop

from core.bus import Bus, connect
from core.liveness import INTERVAL_S, HeartbeatPublisher
from core.natsauth.permissions import AGENTS
from core.pki.tls import TlsFiles, client_ssl_context

CELL = "bench"
BOOT_ID = "b"
_CONNECTIONS = 4
# Those that are due within it beat one after the other: the machine has to bear NATS and the detector as well.
_TURN_S = 0.01


def host_names(count: int) -> list[str]:
    return [f"host-{number:05d}" for number in range(count)]


class BeatingHosts:
    def __init__(self, buses: list[Bus], hosts: list[str]) -> None:
        self.silent: set[str] = set()
        self.sent = 0
        moments = [(random.uniform(0, INTERVAL_S), host, agent) for host in hosts for agent in AGENTS]
        self._speakers = [
            (moment, host, HeartbeatPublisher.for_agent(random.choice(buses), host=host, agent=agent, boot_id=BOOT_ID))
            for moment, host, agent in sorted(moments)
        ]

    async def run(self) -> None:
        """For ever. On a machine that is too slow for it all, they beat less often: nothing is sent in a heap."""
        began = time.monotonic()
        while True:
            for moment, host, publisher in self._speakers:
                early_s = began + moment - time.monotonic()
                if early_s > 0:
                    await asyncio.sleep(max(early_s, _TURN_S))
                if host not in self.silent:
                    await publisher.beat()
                    self.sent += 1
            began = max(began + INTERVAL_S, time.monotonic() - INTERVAL_S / 2)


async def obey(hosts: BeatingHosts) -> None:
    """Until the standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        if line[0] == "silence":
            hosts.silent.update(line[1:])
            print(time.monotonic(), flush=True)
        else:
            print(hosts.sent, flush=True)


async def main(url: str, tls_folder: Path, count: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    tls = client_ssl_context(TlsFiles.in_folder(tls_folder))
    buses = [await connect(url, cell=CELL, name=f"hosts {number}", tls=tls) for number in range(_CONNECTIONS)]
    hosts = BeatingHosts(buses, host_names(count))
    beating = asyncio.create_task(hosts.run())
    await obey(hosts)
    beating.cancel()
    for bus in buses:
        await bus.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
