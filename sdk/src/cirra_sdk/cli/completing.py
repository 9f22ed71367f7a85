"""What the shell offers after TAB: the names of what there is in the cloud.

A person waits for it in the middle of a line: where the cloud is not told, can't be reached or is slow, nothing is
offered, and nothing is said. CIRRA_DEBUG=1 says why.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer

from cirra_sdk.cli.command import Globals
from cirra_sdk.cli.report import debugging
from cirra_sdk.errors import CirraApiError, CirraError

if TYPE_CHECKING:
    from cirra_sdk.client import AsyncClient

ANSWER_WITHIN_S = 1.0
# Of each kind, those created first: nobody reads a longer list.
MOST = 1000
EVERYTHING = (
    *("routers", "floating_ips"),
    *("instances", "networks", "subnets", "ports", "images", "server_groups", "security_groups"),
    *("flavors", "key_pairs", "projects", "users", "hosts", "aggregates"),
)
"""All kinds of things that have a history: collections of the client."""

Completer = Callable[[typer.Context, str], list[str]]


def names_of(*kinds: str) -> Completer:
    """Offers what people call things of these *kinds* (collections of the client), or uids where that is not enough."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _asked(ctx, kinds, incomplete)

    return complete


def words(*known: str) -> Completer:
    """Offers these, as the person writes: in small letters or capitals."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [word.lower() if incomplete.islower() else word for word in known]

    return complete


def after_key(**kinds: str) -> Completer:
    """Offers the values of `key=value,key=value`, for keys whose values are names of a kind; before that, the keys."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        done, comma, last = incomplete.rpartition(",")
        key, equals, value = last.partition("=")
        if not equals:
            return [f"{done}{comma}{known}=" for known in kinds]
        if key not in kinds:
            return []
        return [f"{done}{comma}{key}={name}" for name in _asked(ctx, (kinds[key],), value)]

    return complete


def clouds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offers the clouds of clouds.yaml."""
    from cirra_sdk.config import clouds as described

    try:
        return sorted(described())
    except CirraError as error:
        return _nothing(error)


def _asked(ctx: typer.Context, kinds: Iterable[str], incomplete: str) -> list[str]:
    # gRPC writes to stderr, where the person types.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    told = ctx.find_root().params
    who = Globals(told.get("cloud") or "", told.get("project") or "", told.get("user") or "")
    try:
        return asyncio.run(_names(who, kinds, incomplete))
    except (CirraError, OSError, TimeoutError) as error:
        return _nothing(error)


def _nothing(error: Exception) -> list[str]:
    if debugging():
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
    return []


async def _names(who: Globals, kinds: Iterable[str], incomplete: str) -> list[str]:
    from cirra_sdk.client import AsyncClient
    from cirra_sdk.config import memory_directory, resolve
    from cirra_sdk.state import FileMemory

    profile = resolve(who.cloud, project=who.project, user=who.user)
    memory = FileMemory(memory_directory() / profile.memory_name())
    async with asyncio.timeout(ANSWER_WITHIN_S), AsyncClient.of(profile, retry_for_s=0, memory=memory) as client:
        found = await asyncio.gather(*(_of_kind(client, kind) for kind in kinds))
    return offered([pair for pairs in found for pair in pairs], incomplete)


def offered(things: list[tuple[str, str]], incomplete: str) -> list[str]:
    """*things*: (name, uid). Their names; the uid of one that has none of its own. A uid that is begun is completed."""
    bearers = Counter(name for name, _ in things)
    names = [name if bearers[name] == 1 and name else uid for name, uid in things]
    fitting = [name for name in names if name.startswith(incomplete)]
    return sorted({*(fitting or (uid for _, uid in things if uid.startswith(incomplete)))})


async def _of_kind(client: AsyncClient, kind: str) -> list[tuple[str, str]]:
    from cirra_sdk.cli.waiting import take

    try:
        if kind == "zones":
            return [(zone.name, zone.name) for zone in await client.placement.zones()]
        found = await take(getattr(client, kind).list(page_size=MOST), MOST)
    except CirraApiError as error:
        # Not for this user, perhaps; other kinds may be.
        _nothing(error)
        return []
    return [_called(thing) for thing in found]


def _called(thing: Any) -> tuple[str, str]:
    """(name, uid): hosts are known by their names, floating IPs by their addresses, operations by their uids."""
    uid = thing.uid or thing.name.rpartition("/")[2]
    if address := getattr(thing, "floating_ip_address", ""):
        return address, uid
    return getattr(thing, "display_name", "") or (uid if not hasattr(thing, "display_name") else ""), uid
