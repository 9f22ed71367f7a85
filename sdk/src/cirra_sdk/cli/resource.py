"""Things of any kind: found by what people call them, and read as they are or were."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cirra_sdk.cli import options
from cirra_sdk.cli.report import UsageError
from cirra_sdk.errors import CirraApiError, InvalidArgument, NotFound, PermissionDenied

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from cirra.events.v1.events_pb2 import ResourceAsOf
    from cirra_sdk.cli.command import Session

_UID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What is no server may be one of these; the client has a collection for each.
_OTHERS = (
    *("networks", "subnets", "ports", "routers", "floating_ips"),
    *("images", "server_groups", "security_groups", "flavors", "key_pairs", "projects", "users"),
)
_HOSTS = ("hosts", "aggregates")


def is_uid(told: str) -> bool:
    return _UID.fullmatch(told) is not None


async def resource_name(session: Session, told: str) -> str:
    """What the log knows a thing by. A display name is a server's, if one has it: that is what most questions are
    about. Raises NotFound, and UsageError when several other things have it.
    """
    if not told or "/" in told or is_uid(told):
        return told
    try:
        return (await session.client.instances.get(told)).name
    except NotFound:
        pass
    kinds = (*_OTHERS, *_HOSTS)
    names = await asyncio.gather(*(_name(session, kind, told) for kind in kinds))
    found = [(kind, name) for kind, name in zip(kinds, names, strict=True) if name]
    if not found:
        raise NotFound(
            "NOT_FOUND",
            f"nothing is called {told!r}",
            "check the name and the project; of what is deleted give the uid: `cirra event list` has it",
        )
    if len(found) > 1:
        several = ", ".join(f"{name} ({kind[:-1].replace('_', ' ')})" for kind, name in found)
        raise UsageError(f"{told!r} is the name of several", remedy=f"give one of {several}")
    return found[0][1]


async def _name(session: Session, kind: str, told: str) -> str:
    try:
        return str((await getattr(session.client, kind).get(told)).uid)
    except (NotFound, PermissionDenied):
        return ""
    except InvalidArgument as error:
        if error.reason != "AMBIGUOUS_NAME":
            raise
        raise UsageError(
            f"{told!r} is the name of several {kind.replace('_', ' ')}", remedy=f"give the uid of one: {_list(kind)}"
        ) from error


def _list(kind: str) -> str:
    noun = {"key_pairs": "keypair", "floating_ips": "floating-ip"}.get(kind, kind[:-1].replace("_", " "))
    return f"`cirra {noun} list` has them"


async def one(session: Session, collection: Any, name: str, as_of: str) -> Any:
    """A resource of the collection, as it is, or as it was then (a time or a position, as people write them)."""
    from cirra_sdk.resources.compute import Instances

    when = options.moment_or_position(as_of, "--as-of")
    if when is None:
        return await collection.get(name)
    if isinstance(collection, Instances) and isinstance(when, datetime):
        # By display name too, of one that is deleted now.
        return await collection.get(name, as_of=when)
    told = name if "/" in name or is_uid(name) else (await collection.get(name)).name
    return content(await as_it_was(session, told, when))


async def as_it_was(session: Session, resource: str, when: datetime | int | None) -> ResourceAsOf:
    """*resource*: as `resource_name` gives it. None: as it is now. Raises NotFound when there was none then."""
    position = when if isinstance(when, int) else 0
    moment = when if isinstance(when, datetime) else None
    return await session.client.events.resource_as_of(resource, as_of=moment, position=position)


async def as_it_is(session: Session, resource: str) -> Message:
    """*resource*: as `resource_name` gives it. Raises NotFound."""
    try:
        return content(await as_it_was(session, resource, None))
    except InvalidArgument:
        # Of these the log alone does not tell all.
        for collection in (session.client.hosts, session.client.server_groups):
            try:
                found: Message = await collection.get(resource)
            except (NotFound, PermissionDenied):
                continue
            return found
        raise


def content(past: ResourceAsOf) -> Message:
    """The resource itself. Raises CirraApiError when this client is too old to know its kind."""
    from cirra_sdk.cli.plain import unpacked

    try:
        return unpacked(past.data)
    except KeyError as error:
        kind = past.data.TypeName()
        raise CirraApiError("UNKNOWN_KIND", f"{kind} is unknown here", "use a newer client") from error
