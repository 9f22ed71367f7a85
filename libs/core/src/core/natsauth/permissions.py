"""What each kind of identity may publish and subscribe to: pure functions, no I/O.

A JetStream call is a publish with a reply subject, so a permission is a list of subjects. Three facts about
nats-server (measured on 2.15.1; tests/integration/security proves them) shape the lists:

* A client's permissions are checked for the subject that it publishes, **not for the reply subject**:
  JetStream answers wherever the caller says, with its own rights. In one account, a host that may do
  nothing but report could so purge a stream or delete another host's consumer. Hosts therefore live in an
  account of their own, which reaches account CIRRA through the few subjects of ``HOST_BRIDGE`` only.
* An acknowledgement subject has two forms (ADR-15 of nats-architecture-and-design):
  ``$JS.ACK.<stream>.<consumer>.`` and five tokens, and
  ``$JS.ACK.<domain>.<account hash>.<stream>.<consumer>.`` and five tokens. A wildcard in the place of the
  domain lets a host ask for *another* consumer's messages (``+NXT``) in the first form; so the domain is
  spelled out.
* Both forms are granted with an exact number of tokens, so that neither can be read as the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from core.bus.subjects import Subjects, consumer_name
from core.errors import FieldViolation, InvalidArgument
from core.pki.identity import Identity

AGENTS = ("compute", "net", "block")
METADATA = Identity.service("metadata")

# The token that nats-server writes when JetStream has no domain.
NO_DOMAIN = "_"
# delivered, stream sequence, consumer sequence, time, pending
_ACK_TAIL = "*.*.*.*.*"

_CELL = re.compile(r"[a-z0-9][a-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that an identity may publish and subscribe to; whatever is not listed is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def to_claims(self) -> dict[str, Any]:
        """The ``pub`` and ``sub`` claims of a user token. An empty list means nothing, not everything."""
        return {"pub": _claim(self.publish), "sub": _claim(self.subscribe)}


@dataclass(frozen=True, slots=True)
class BridgedSubject:
    """A subject of account CIRRA that hosts reach; ``many_replies``: a request may have several answers."""

    name: str
    subject: str
    many_replies: bool = False


HOST_BRIDGE = (
    BridgedSubject("pull commands", "$JS.API.CONSUMER.MSG.NEXT.*.*", many_replies=True),
    BridgedSubject("acknowledge commands", "$JS.ACK.>"),
    BridgedSubject("reports", "*.reports.>"),
    BridgedSubject("heartbeats", "*.heartbeats.>"),
    BridgedSubject("progress", "*.progress.>"),
    BridgedSubject("dead letters", "*.deadletter.>"),
)


def host_permissions(cell: str, host: str) -> Permissions:
    """One host: pulls and acknowledges its own agents' commands, reports and beats for itself; no more.

    Raises InvalidArgument if a name could widen a subject.
    """
    stream = Subjects(check_cell(cell)).commands_stream
    identity = Identity.host(host)
    publish: list[str] = []
    for agent in AGENTS:
        consumer = consumer_name(host, agent)
        publish += (
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            f"$JS.ACK.{stream}.{consumer}.{_ACK_TAIL}",
            f"$JS.ACK.{NO_DOMAIN}.*.{stream}.{consumer}.{_ACK_TAIL}",
            f"{cell}.deadletter.{consumer}.>",
        )
    publish += (f"{cell}.{kind}.{host}.>" for kind in ("reports", "heartbeats", "progress"))
    return Permissions(publish=tuple(publish), subscribe=(f"{inbox_prefix(identity)}.>",))


def service_permissions(cell: str) -> Permissions:
    """A control-plane service (conductor, placement, gateway): the whole of account CIRRA."""
    check_cell(cell)
    return Permissions(publish=(">",), subscribe=(">",))


def metadata_permissions(cell: str) -> Permissions:
    """The metadata service: reads EVENTS, reports what guests fetched, beats; no command, no other stream.

    It guards against mistakes. It is not a wall against malice: the service is in account CIRRA (see
    above).
    """
    events = Subjects(check_cell(cell)).events_stream
    consumer_calls = ("CREATE", "INFO", "DELETE", "MSG.NEXT")
    publish = (
        "$JS.API.INFO",
        f"$JS.API.STREAM.INFO.{events}",
        f"$JS.API.STREAM.MSG.GET.{events}",
        f"$JS.API.DIRECT.GET.{events}",
        f"$JS.API.DIRECT.GET.{events}.>",
        *(f"$JS.API.CONSUMER.{call}.{events}.>" for call in consumer_calls),
        f"$JS.ACK.{events}.*.{_ACK_TAIL}",
        f"$JS.ACK.{NO_DOMAIN}.*.{events}.*.{_ACK_TAIL}",
        f"{cell}.reports.*.metadata.>",
        f"{cell}.service-heartbeats.metadata.>",
    )
    return Permissions(publish=publish, subscribe=(f"{inbox_prefix(METADATA)}.>",))


def identity_permissions(cell: str, identity: Identity) -> Permissions:
    """What *identity* may do in *cell*: the one place that decides it."""
    if identity.kind == "host":
        return host_permissions(cell, identity.name)
    if identity == METADATA:
        return metadata_permissions(cell)
    return service_permissions(cell)


def inbox_prefix(identity: Identity) -> str:
    """The private inbox of an identity, to be given to its NATS client as the inbox prefix."""
    # No name holds an underscore, so no host can be called "service_…".
    return f"_INBOX_{identity.name}" if identity.kind == "host" else f"_INBOX_service_{identity.name}"


def check_cell(cell: str) -> str:
    """Return *cell* if it is a cell name (lower-case letters, digits, ``_``), else raise InvalidArgument."""
    if not _CELL.fullmatch(cell):
        raise InvalidArgument(FieldViolation("cell", f"{cell!r} does not match {_CELL.pattern}"))
    return cell


def _claim(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    # nats-server takes an absent allow list for "everything".
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}
