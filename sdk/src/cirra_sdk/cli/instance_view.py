"""One instance as an operator wants to see it: what was decided, what the guest did with it, and what is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cirra_sdk.cli.output import Column, list_table, pairs_table
from cirra_sdk.cli.plain import enum_text, time_text
from cirra_sdk.cli.text import duration_text
from cirra_sdk.errors import CirraApiError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cirra.compute.v1.compute_pb2 import Instance
    from cirra_sdk.client import AsyncClient


def nic_columns(names: Mapping[str, str], *, floating: bool) -> tuple[Column, ...]:
    """The three addresses of a NIC side by side, and those that lead to it where any does."""
    leading = (Column("Floating", lambda nic: ", ".join(nic.floating_ips) or "-"),) if floating else ()
    return (
        Column("Port", lambda nic: nic.port),
        Column("Network", lambda nic: names.get(nic.network, nic.network)),
        Column("MAC", lambda nic: nic.mac_address),
        Column("Allocated", lambda nic: nic.fixed_ip),
        Column("Leased", lambda nic: nic.leased_ip or "-"),
        Column("Seen", lambda nic: nic.seen_ip or "-"),
        *leading,
    )


async def names_of(client: AsyncClient, instance: Instance) -> dict[str, str]:
    """Uid → what people call the image, the key pair and the networks of an instance; what is gone has no name."""
    wanted = [
        *((client.images, uid) for uid in {instance.image}),
        *((client.key_pairs, uid) for uid in {instance.key_pair}),
        *((client.networks, uid) for uid in {nic.network for nic in instance.nics}),
    ]
    found = await asyncio.gather(*(_display_name(collection, uid) for collection, uid in wanted if uid))
    return {uid: name for uid, name in found if name}


async def _display_name(collection: Any, uid: str) -> tuple[str, str]:
    try:
        return uid, (await collection.get(uid)).display_name
    except CirraApiError:
        # Gone, or not ours to see; and never a reason not to show the instance.
        return uid, ""


def instance_tables(instance: Instance, names: Mapping[str, str]) -> Iterator[RenderableType]:
    """Its facts, its NICs with the three addresses of each, its doubts, its fault."""
    from rich.text import Text

    yield pairs_table([pair for pair in _facts(instance, names) if pair[1] not in ("", None)])
    if instance.nics:
        yield ""
        yield list_table(instance.nics, nic_columns(names, floating=any(nic.floating_ips for nic in instance.nics)))
    for doubt in doubts(instance):
        yield Text(f"! {doubt}", style="yellow")
    if instance.HasField("fault"):
        yield ""
        yield Text(f"fault:  {instance.fault.message} ({instance.fault.reason})", style="bold red")
        yield Text(f"remedy: {instance.fault.remedy or 'see its timeline: cirra timeline ' + instance.uid}")


def _facts(instance: Instance, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    yield "ID", instance.uid
    yield "Name", instance.display_name
    yield "Status", enum_text(instance, "status")
    yield "Task", instance.task_state
    yield "Power", enum_text(instance, "power_state")
    yield "Hostname", instance.hostname
    yield "Flavor", _flavor(instance)
    yield "Image", _named(instance.image, names)
    yield "Key pair", _named(instance.key_pair, names)
    yield "Zone", instance.availability_zone
    yield "Host", instance.host
    yield "Virtualisation", instance.virt_type
    yield "Properties", ", ".join(f"{key}={instance.metadata[key]}" for key in sorted(instance.metadata))
    yield "Tags", ", ".join(instance.tags)
    yield "Locked", (instance.locked_reason or "yes") if instance.locked else ""
    yield "Project", instance.project_id
    yield "User", instance.user_id
    yield "Created", time_text(instance.create_time)
    yield "Launched", time_text(instance.launch_time)
    yield "Updated", time_text(instance.update_time)
    yield "Metadata", _metadata(instance)


def _named(uid: str, names: Mapping[str, str]) -> str:
    return f"{names[uid]} ({uid})" if uid in names else uid


def _flavor(instance: Instance) -> str:
    flavor = instance.flavor_summary
    return f"{flavor.display_name} ({flavor.vcpus} vCPU, {flavor.memory_mib} MiB RAM, {flavor.disk_gib} GiB disk)"


def _metadata(instance: Instance) -> str:
    if not instance.HasField("metadata_fetch_time"):
        return "not fetched"
    fetched = f"fetched {time_text(instance.metadata_fetch_time)}"
    after_ms = (instance.metadata_fetch_time.ToNanoseconds() - instance.launch_time.ToNanoseconds()) / 1e6
    if not instance.HasField("launch_time") or after_ms < 0:
        return fetched
    return f"{fetched}, {duration_text(after_ms)} after the launch"


def doubts(instance: Instance) -> Iterator[str]:
    """Where the guest may not have got what it was given. A guest that is not running is not asked."""
    if enum_text(instance, "status") != "ACTIVE":
        return
    for nic in instance.nics:
        if nic.seen_ip and nic.seen_ip != nic.fixed_ip:
            yield f"the guest uses {nic.seen_ip}, not {nic.fixed_ip}, which it was allocated"
        elif nic.leased_ip and nic.leased_ip != nic.fixed_ip:
            yield f"the guest was leased {nic.leased_ip}, not {nic.fixed_ip}, which it was allocated"
        elif not nic.leased_ip and not nic.seen_ip:
            yield f"{nic.fixed_ip} has not reached the guest yet: it has not asked for it by DHCP"
    if not instance.HasField("metadata_fetch_time"):
        yield "the guest has not fetched its metadata yet: it has neither key nor user data"
