"""Which columns the lists of each kind have."""

from __future__ import annotations

from typing import Any

from cirra_sdk.cli.output import Column
from cirra_sdk.cli.plain import enum_text, time_text
from cirra_sdk.cli.steps import short_item
from cirra_sdk.cli.text import duration_text, size_text


def _field(title: str, name: str, *, right: bool = False, whole: bool = False) -> Column:
    return Column(title, lambda message: getattr(message, name), right, whole)


def _enum(title: str, name: str) -> Column:
    return Column(title, lambda message: enum_text(message, name))


def _time(title: str, name: str) -> Column:
    return Column(title, lambda message: time_text(getattr(message, name)))


def _yes(title: str, name: str) -> Column:
    return Column(title, lambda message: "yes" if getattr(message, name) else "no")


def addresses(instance: Any) -> str:
    """What each NIC is known by: the address seen, else the one leased, else the one allocated (in brackets).

    And the floating IPs that lead to it.
    """
    found = [(nic.seen_ip or nic.leased_ip or f"({nic.fixed_ip})", nic) for nic in instance.nics if nic.fixed_ip]
    return ", ".join(text for inner, nic in found for text in (inner, *nic.floating_ips))


_ID = _field("ID", "uid", whole=True)
_NAME = _field("Name", "display_name")
_CREATED = _time("Created", "create_time")

SERVERS = (
    _ID,
    _NAME,
    _enum("Status", "status"),
    _field("Task", "task_state"),
    Column("Addresses", addresses),
    Column("Flavor", lambda instance: instance.flavor_summary.display_name),
)
SERVERS_LONG = (
    *SERVERS,
    _enum("Power", "power_state"),
    _field("Image", "image"),
    _field("Zone", "availability_zone"),
    _field("Host", "host"),
    _field("Project", "project_id"),
    _CREATED,
)
FLAVORS = (
    _ID,
    _NAME,
    _field("vCPUs", "vcpus", right=True),
    _field("RAM MiB", "memory_mib", right=True),
    _field("Disk GiB", "disk_gib", right=True),
)
KEY_PAIRS = (_ID, _NAME, _field("Type", "type"), _field("Fingerprint", "fingerprint"))
IMAGES = (
    _ID,
    _NAME,
    _enum("Status", "status"),
    _enum("Format", "disk_format"),
    Column("Size", lambda image: size_text(image.size_bytes) if image.size_bytes else "", right=True),
    Column("Disk", lambda image: size_text(image.virtual_size_bytes) if image.virtual_size_bytes else "", right=True),
    _enum("Visibility", "visibility"),
)
NETWORKS = (
    _ID,
    _NAME,
    _enum("Type", "type"),
    _field("Physical network", "physical_network"),
    Column("Segment", lambda network: network.segmentation_id or "", right=True),
    _field("MTU", "mtu", right=True),
    _yes("Shared", "shared"),
    _yes("External", "external"),
    Column("Subnets", lambda network: ", ".join(network.subnets)),
)
SUBNETS = (
    _ID,
    _NAME,
    _field("Network", "network"),
    _field("CIDR", "cidr"),
    _field("Gateway", "gateway_ip"),
    Column("DHCP", lambda subnet: "" if subnet.no_dhcp else subnet.dhcp_ip),
    Column("Pools", lambda subnet: ", ".join(f"{pool.start}-{pool.end}" for pool in subnet.allocation_pools)),
)
PORTS = (
    _ID,
    _NAME,
    _field("MAC", "mac_address"),
    Column("Allocated", lambda port: ", ".join(fixed.ip_address for fixed in port.fixed_ips)),
    _field("Leased", "leased_ip"),
    _field("Seen", "seen_ip"),
    _enum("Status", "status"),
    _field("Instance", "device_id"),
)
ROUTERS = (
    _ID,
    _NAME,
    Column("External network", lambda router: router.external_gateway.network),
    Column("SNAT", lambda router: "yes" if router.external_gateway.enable_snat else "no"),
    Column("Addresses", lambda router: ", ".join(interface.ip_address for interface in router.interfaces)),
    Column("Routes", lambda router: len(router.routes), right=True),
)
FLOATING_IPS = (
    _ID,
    _field("Address", "floating_ip_address", whole=True),
    _field("Leads to", "fixed_ip_address"),
    _field("Port", "port"),
    _field("Network", "network"),
    _enum("Status", "status"),
)
PROJECTS = (_ID, _NAME, _field("Description", "description"), _CREATED)


def _roles(user: Any) -> str:
    return ", ".join(
        f"{enum_text(binding, 'role').lower()} in {binding.project_id or 'the whole cloud'}" for binding in user.roles
    )


USERS = (_ID, _NAME, Column("Roles", _roles), _CREATED)
QUOTAS = (
    _field("Resource", "resource"),
    Column("Limit", lambda quota: "unlimited" if quota.limit < 0 else quota.limit, right=True),
    _field("Usage", "usage", right=True),
)
OPERATIONS = (
    _ID,
    _field("Kind", "kind"),
    _enum("State", "state"),
    Column("Target", lambda operation: operation.target),
    _CREATED,
    Column("Reason", lambda operation: operation.error.reason),
)


def stuck_step(operation: Any) -> str:
    """Where it stands: "undo of bind_port …0192abcd"."""
    stuck = operation.stuck
    item = f" {short_item(stuck.item)}" if stuck.item else ""
    return f"{'undo of ' if stuck.undoing else ''}{stuck.step}{item}"


# What somebody needs who was woken because of it.
STUCK_OPERATIONS = (
    _ID,
    _field("Kind", "kind"),
    Column("Stuck at", stuck_step),
    Column("Host", lambda operation: operation.stuck.host),
    Column("Since", lambda operation: time_text(operation.stuck.since)),
    Column("Tries", lambda operation: operation.stuck.tries, right=True),
    Column("Why", lambda operation: f"{operation.stuck.error.reason}: {operation.stuck.error.message}"),
)


def _of(host: Any, what: str) -> str:
    """Used of what may be claimed."""
    return f"{getattr(host.usage, what)}/{getattr(host.capacity, what)}"


def _host_state(host: Any) -> str:
    """As it is heard, and what keeps it from acting."""
    state = enum_text(host, "state")
    return f"{state}, observe-only" if host.observe_only else state


HOSTS = (
    Column("Name", lambda host: host.name.rpartition("/")[2]),
    Column("State", _host_state),
    _yes("Enabled", "enabled"),
    _field("Zone", "availability_zone"),
    Column("vCPUs", lambda host: _of(host, "vcpus"), right=True),
    Column("RAM MiB", lambda host: _of(host, "memory_mib"), right=True),
    Column("Disk GiB", lambda host: _of(host, "disk_gib"), right=True),
    Column("Runs", lambda host: ", ".join(host.inventory.virt_types)),
    Column("Instances", lambda host: host.usage.instances, right=True),
    Column("Orphans", lambda host: len(host.orphans), right=True),
    Column("Faults", lambda host: len(host.faults), right=True),
    _enum("Evacuation", "evacuation"),
)
DIFFERENCES = (
    _enum("Difference", "kind"),
    _field("Kind", "object_kind"),
    _field("ID", "object_id", whole=True),
    _field("The cloud", "cloud"),
    _field("The host", "host"),
)
AGGREGATES = (
    _ID,
    _NAME,
    _field("Zone", "availability_zone"),
    Column("Hosts", lambda aggregate: ", ".join(aggregate.hosts)),
    Column(
        "Metadata", lambda aggregate: ", ".join(f"{key}={text}" for key, text in sorted(aggregate.metadata.items()))
    ),
)
ZONES = (
    _field("Name", "name"),
    _yes("Available", "available"),
    Column("Hosts", lambda zone: ", ".join(zone.hosts)),
)
SERVER_GROUPS = (
    _ID,
    _NAME,
    Column("Policy", lambda group: enum_text(group, "policy").replace("_", "-").lower()),
    Column("Members", lambda group: len(group.members), right=True),
)
SECURITY_GROUPS = (
    _ID,
    _NAME,
    _field("Description", "description"),
    Column("Rules", lambda group: len(group.rules), right=True),
    _field("Project", "project_id"),
)


def _matched(rule: Any) -> str:
    """Ports or ICMP's type and code: "22", "8000-8080", "type 8 code 0"."""
    if rule.HasField("icmp_type"):
        code = f" code {rule.icmp_code}" if rule.HasField("icmp_code") else ""
        return f"type {rule.icmp_type}{code}"
    low, high = rule.port_range_min, rule.port_range_max
    return "" if not low else str(low) if low == high else f"{low}-{high}"


SECURITY_GROUP_RULES = (
    _ID,
    Column("Direction", lambda rule: enum_text(rule, "direction").lower()),
    Column("Ethertype", lambda rule: f"IPv{rule.ethertype}"),
    Column("Protocol", lambda rule: rule.protocol or "any"),
    Column("Ports", _matched),
    Column("Other end", lambda rule: rule.remote_ip_prefix or rule.remote_group or "any"),
    _field("Description", "description"),
)
SERVICES = (
    _field("Service", "service"),
    _field("Instance", "instance"),
    _field("Host", "host"),
    Column("State", lambda service: "UP" if service.up else "DOWN"),
    Column("Silent for", lambda service: duration_text(service.silence_ms), right=True),
    _field("Version", "version"),
)


def _event_name(event: Any) -> str:
    return str(event.type.rpartition(".")[2])


EVENTS = (
    _field("Position", "position", right=True),
    _time("Time", "time"),
    Column("Event", _event_name),
    _field("On", "aggregate_type"),
    _field("ID", "aggregate_id"),
    _field("Actor", "actor"),
)
CHANGES = (
    _field("Field", "field"),
    Column("Before", lambda change: "-" if change.before is None else change.before),
    Column("After", lambda change: "-" if change.after is None else change.after),
)
AUDIT = (
    Column("Time", lambda request: request["time"]),
    Column("Who", lambda request: request["user"] or request["actor"]),
    Column("Asked", lambda request: request["method"] or ", ".join(request["events"])),
    Column("On", lambda request: request["aggregate_type"]),
    Column("ID", lambda request: request["aggregate_id"], whole=True),
    Column("Request", lambda request: request["request_id"]),
)
