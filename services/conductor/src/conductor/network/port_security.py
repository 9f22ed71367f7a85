"""What a port is guarded by: its security groups, the addresses that it may use beside its own, or nothing at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, NetmaskValueError, ip_network
from uuid import UUID

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields, uid
from conductor.network.security_group import DEFAULT, DEFAULTS, SecurityGroup
from conductor.requests import load_live
from core.context import acting
from core.errors import FieldViolation, InvalidArgument, NotFound
from core.eventlog.errors import UniqueViolation
from core.ids import uuid7
from core.repository import Repository

MAX_GROUPS = 16
UPDATABLE = ("security_groups", "allowed_address_pairs", "port_security_enabled")
# As many as OpenStack allows.
MAX_PAIRS = 10

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class PortSecurity:
    """`group_ids`: each once, in the order asked for; of a port that is only wanted also "default". Not `enabled`: no
    groups, no pairs."""

    enabled: bool = True
    group_ids: tuple[str, ...] = ()
    pairs: tuple[public.AddressPair, ...] = ()

    @classmethod
    def of(cls, event: events.PortCreated | events.PortUpdated) -> PortSecurity:
        return cls(
            not event.port_security_disabled, tuple(event.security_group_ids), tuple(event.allowed_address_pairs)
        )

    def differs_in(self, other: PortSecurity) -> list[str]:
        """The fields of a public port that tell of the difference."""
        pairs = zip(UPDATABLE, (self.group_ids, self.pairs, self.enabled), strict=True)
        others = (other.group_ids, other.pairs, other.enabled)
        return [path for (path, mine), theirs in zip(pairs, others, strict=True) if mine != theirs]


OFF = PortSecurity(enabled=False)
IN_NO_GROUP = PortSecurity()


def guard(spec: agent.PortSpec, security: PortSecurity) -> None:
    """Tells a host's port of it."""
    spec.unguarded = not security.enabled
    spec.security_group_ids[:] = security.group_ids
    del spec.allowed_address_pairs[:]
    for pair in security.pairs:
        spec.allowed_address_pairs.add(ip_address=pair.ip_address, mac_address=pair.mac_address)


async def wanted_security(repository: Repository, port: public.Port, project_id: str) -> PortSecurity:
    """Of a new port. One that names no group is in its project's default group, which comes with the port.

    Raises InvalidArgument, NotFound for groups of others.
    """
    fields = Fields("port.")
    off = port.HasField("port_security_enabled") and not port.port_security_enabled
    if off:
        _refuse_when_off(fields, port)
    if port.no_security_groups and port.security_groups:
        fields.refuse("no_security_groups", "security_groups are given too: give one of the two")
    pairs = checked_pairs(fields, port.allowed_address_pairs)
    fields.check()
    if off:
        return OFF
    if port.no_security_groups:
        return PortSecurity(pairs=pairs)
    return PortSecurity(
        group_ids=await wanted_groups(repository, "port.security_groups", port.security_groups, project_id), pairs=pairs
    )


async def changed_security(
    repository: Repository, present: PortSecurity, request: public.UpdatePortRequest, project_id: str
) -> PortSecurity:
    """Of a port that is there, as the mask says. Turned on, it is in the default group unless groups are named.

    Raises InvalidArgument, NotFound for groups of others.
    """
    port, paths = request.port, frozenset(request.update_mask.paths)
    fields = Fields("port.")
    enabled = present.enabled
    if "port_security_enabled" in paths:
        enabled = port.port_security_enabled or not port.HasField("port_security_enabled")
    if not enabled:
        _refuse_when_off(fields, port)
        fields.check()
        return OFF
    pairs = present.pairs
    if "allowed_address_pairs" in paths:
        pairs = checked_pairs(fields, port.allowed_address_pairs)
    fields.check()
    group_ids = present.group_ids
    if "security_groups" in paths:
        group_ids = await own_groups(repository, "port.security_groups", port.security_groups, project_id)
    elif not present.enabled:
        group_ids = (await ensure_default_group(repository, project_id),)
    return PortSecurity(group_ids=group_ids, pairs=pairs)


async def wanted_groups(repository: Repository, field: str, names: Sequence[str], project_id: str) -> tuple[str, ...]:
    """Their ids, each once; "default" for the project's own, also where none is named.

    Raises InvalidArgument, NotFound.
    """
    _check_number(field, names)
    found = [
        name if name == DEFAULT else str((await own_group(repository, f"{field}[{index}]", name, project_id)).id)
        for index, name in enumerate(names or [DEFAULT])
    ]
    return tuple(dict.fromkeys(found))


async def own_groups(repository: Repository, field: str, names: Sequence[str], project_id: str) -> tuple[str, ...]:
    """The ids of groups of this project, each once. Raises InvalidArgument, NotFound."""
    _check_number(field, names)
    found = [await own_group(repository, f"{field}[{index}]", name, project_id) for index, name in enumerate(names)]
    return tuple(dict.fromkeys(str(group.id) for group in found))


def _check_number(field: str, names: Sequence[str]) -> None:
    if len(names) > MAX_GROUPS:
        raise InvalidArgument(FieldViolation(field, f"{len(names)} are given: give at most {MAX_GROUPS}"))


async def own_group(repository: Repository, field: str, name: str, project_id: str) -> SecurityGroup:
    """`name`: a uid, a resource name, or "default". Raises InvalidArgument, NotFound for another project's."""
    if name == DEFAULT:
        name = await ensure_default_group(repository, project_id)
    group = await load_live(repository, SecurityGroup, uid(field, name))
    if group.project_id != project_id:
        raise NotFound(f"no security group {name}", remedy="check the name: a group is its own project's")
    return group


async def default_group(repository: Repository, project_id: str) -> tuple[str, SecurityGroup | None]:
    """The id of the project's default group; the group itself if there was none: not saved, and refused by the log when
    another is faster."""
    present = await repository.log.unique_owner(DEFAULTS, project_id)
    if present is not None:
        return present, None
    group = SecurityGroup.create_default(uuid7(), project_id)
    return str(group.id), group


async def ensure_default_group(repository: Repository, project_id: str) -> str:
    """The id of the project's default group, made here and now if there is none."""
    group_id, group = await default_group(repository, project_id)
    if group is None:
        return group_id
    try:
        # It answers no request: that is of what needs the group.
        with acting(causation=project_id):
            await repository.save(group)
    except UniqueViolation as violation:
        if violation.scope != DEFAULTS:
            raise
        return violation.owner  # another request was first
    return group_id


async def delete_default_group(repository: Repository, project_id: str) -> None:
    """Before its project goes. Refused by the log, with LimitExceeded, while a port is in it."""
    present = await repository.log.unique_owner(DEFAULTS, project_id)
    if present is not None:
        with acting(causation=project_id):
            await repository.change(SecurityGroup, UUID(present), lambda group: group.delete(with_project=True))


def checked_pairs(fields: Fields, pairs: Sequence[public.AddressPair]) -> tuple[public.AddressPair, ...]:
    """In one form: each a range as ipaddress writes it, or one address. Refuses in `fields`."""
    if len(pairs) > MAX_PAIRS:
        fields.refuse("allowed_address_pairs", f"give at most {MAX_PAIRS}")
        return ()
    found: list[public.AddressPair] = []
    for index, pair in enumerate(pairs):
        field = f"allowed_address_pairs[{index}]"
        mac_address = pair.mac_address.lower()
        if mac_address and (not _MAC.fullmatch(mac_address) or int(mac_address[:2], 16) & 1):
            fields.refuse(
                f"{field}.mac_address", f"{pair.mac_address!r} is no unicast MAC address: give one, or the port's: none"
            )
        normal = public.AddressPair(ip_address=_one_form(fields, field, pair.ip_address), mac_address=mac_address)
        if normal in found:
            fields.refuse(field, "it is given twice: give it once")
        found.append(normal)
    return tuple(found)


def _one_form(fields: Fields, field: str, text: str) -> str:
    try:
        found = ip_network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        fields.refuse(f"{field}.ip_address", f"{error}: give one such as 10.0.0.9 or 10.0.0.0/28")
        return ""
    if found.prefixlen == 0:
        # Every address that there is: OpenStack's guides warn of it, since it lets in whoever names the group.
        fields.refuse(f"{field}.ip_address", "it is every address: turn port security off instead, or give a range")
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def _refuse_when_off(fields: Fields, port: public.Port) -> None:
    for field in ("security_groups", "allowed_address_pairs"):
        if getattr(port, field):
            fields.refuse(field, "port security is off: leave it out, or leave port security on")
