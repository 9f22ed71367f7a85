"""What placements are measured against: hosts and allocations as rows, looked at by every request.

As OpenStack does it, without what is slow in its implementation (no HTTP, no Keystone, no ORM): candidates by one SQL
query over inventories and the sums of allocations, at most 1,000 of them as nova asks for, filtered and weighed one
host after the other in Python, then a transaction that raises the chosen host's generation if it is what was read, and
writes the allocations. Who lost the race begins again. Sources: placement's `allocation_candidate.py`, nova's
`max_placement_results`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from uuid import uuid4

import asyncpg

MAX_CANDIDATES = 1000

_SCHEMA = """
    CREATE SCHEMA openstack_way;
    CREATE TABLE openstack_way.providers (
        name text PRIMARY KEY, generation bigint NOT NULL, zone text NOT NULL, enabled boolean NOT NULL
    );
    CREATE TABLE openstack_way.inventories (
        provider text REFERENCES openstack_way.providers, resource text, total bigint, reserved bigint, ratio float8,
        PRIMARY KEY (provider, resource)
    );
    CREATE TABLE openstack_way.allocations (
        consumer uuid, provider text REFERENCES openstack_way.providers, resource text, used bigint,
        PRIMARY KEY (consumer, resource)
    );
    CREATE INDEX ON openstack_way.allocations (provider, resource) INCLUDE (used);
"""
_CANDIDATES = """
    SELECT p.name, p.generation, p.zone, p.enabled,
           min(f.free) FILTER (WHERE f.resource = 'vcpus') AS vcpus,
           min(f.free) FILTER (WHERE f.resource = 'memory_mib') AS memory_mib,
           min(f.free) FILTER (WHERE f.resource = 'disk_gib') AS disk_gib
      FROM openstack_way.providers p
      JOIN (SELECT i.provider, i.resource, floor((i.total - i.reserved) * i.ratio) - coalesce(a.used, 0) AS free
              FROM openstack_way.inventories i
              LEFT JOIN (SELECT provider, resource, sum(used) AS used
                           FROM openstack_way.allocations GROUP BY provider, resource) a USING (provider, resource)) f
        ON f.provider = p.name
     WHERE f.free >= CASE f.resource WHEN 'vcpus' THEN $1::bigint WHEN 'memory_mib' THEN $2::bigint ELSE $3::bigint END
     GROUP BY p.name HAVING count(*) = 3 LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Size:
    """What is asked for."""

    vcpus: int
    memory_mib: int
    disk_gib: int


async def prepare(pool: asyncpg.Pool, hosts: list[str], has: Size, cpu_ratio: float) -> None:
    """An empty cloud of these hosts, each with so much."""
    await pool.execute("DROP SCHEMA IF EXISTS openstack_way CASCADE")
    await pool.execute(_SCHEMA)
    await pool.executemany("INSERT INTO openstack_way.providers VALUES ($1, 0, 'nova', true)", [(h,) for h in hosts])
    rows = [
        (host, resource, getattr(has, resource), 0, cpu_ratio if resource == "vcpus" else 1.0)
        for host in hosts
        for resource in ("vcpus", "memory_mib", "disk_gib")
    ]
    await pool.executemany("INSERT INTO openstack_way.inventories VALUES ($1, $2, $3, $4, $5)", rows)
    await pool.execute("ANALYZE")


async def claim(pool: asyncpg.Pool, size: Size) -> str:
    """The host that was claimed."""
    while True:
        candidates = await pool.fetch(_CANDIDATES, size.vcpus, size.memory_mib, size.disk_gib, MAX_CANDIDATES)
        left = [each for each in candidates if each["enabled"] and each["zone"] == "nova"]
        weights = [_weighed(left, resource) for resource in ("vcpus", "memory_mib", "disk_gib")]
        totals = [sum(parts) for parts in zip(*weights, strict=True)]
        best = sorted(range(len(left)), key=totals.__getitem__, reverse=True)[:3]
        chosen = left[random.choice(best)]
        async with pool.acquire() as connection, connection.transaction():
            raised = await connection.execute(
                "UPDATE openstack_way.providers SET generation = generation + 1 WHERE name = $1 AND generation = $2",
                chosen["name"],
                chosen["generation"],
            )
            if raised == "UPDATE 0":
                continue  # another request was quicker
            consumer = uuid4()
            await connection.executemany(
                "INSERT INTO openstack_way.allocations VALUES ($1, $2, $3, $4)",
                [
                    (consumer, chosen["name"], resource, getattr(size, resource))
                    for resource in ("vcpus", "memory_mib", "disk_gib")
                ],
            )
        return str(chosen["name"])


def _weighed(hosts: list[asyncpg.Record], resource: str) -> list[float]:
    """To 0…1, as nova's weighers do it."""
    values = [float(host[resource]) for host in hosts]
    low, high = min(values), max(values)
    return [0.0] * len(values) if low == high else [(value - low) / (high - low) for value in values]
