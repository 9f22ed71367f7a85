"""OpenStack's tree: `/openstack/<version>/…`, documents in JSON. Pure, but for the seed that each answer gets anew.

Source: the Nova user guide, "Metadata", and what Nova serves for each of its versions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from metadata.guest import Guest
from metadata.network_data import network_data
from metadata.tree import Directory, Entry, Secret

LATEST = "latest"
VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14",
)  # fmt: skip
SEED_BYTES = 512

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cloud:
    """What all guests are told alike, and where randomness comes from (bytes wanted → bytes)."""

    random_bytes: Callable[[int], bytes]
    vendor_data: Document = field(default_factory=dict)


def tree(guest: Guest, cloud: Cloud) -> Directory:
    """All versions."""
    names = (*VERSIONS, LATEST)
    return Directory({name: partial(_version, guest, cloud, name) for name in names}, listing=names)


def _version(guest: Guest, cloud: Cloud, version: str) -> Directory:
    """In the order in which Nova lists them."""
    documents: tuple[tuple[str, str, Entry], ...] = (
        ("2012-08-10", "meta_data.json", lambda: json.dumps(_meta_data(guest, cloud, version))),
        ("2012-08-10", "user_data", Secret.USER_DATA),
        ("2013-04-04", "password", Secret.PASSWORD),
        ("2013-10-17", "vendor_data.json", lambda: json.dumps(cloud.vendor_data)),
        ("2015-10-15", "network_data.json", lambda: json.dumps(network_data(guest))),
        ("2016-10-06", "vendor_data2.json", lambda: json.dumps({"static": cloud.vendor_data})),
    )
    entries = {
        name: entry
        for since, name, entry in documents
        if _has(version, since) and (name != "user_data" or guest.has_user_data)
    }
    return Directory(entries, listing=entries)


def _meta_data(guest: Guest, cloud: Cloud, version: str) -> dict[str, Any]:
    """`meta` are the properties. `tags`, where there are some, are ours: Nova tells its guests of none."""
    created = guest.created
    document: dict[str, Any] = {
        "uuid": str(guest.instance_id),
        "name": created.display_name,
        "hostname": guest.fqdn,
        "availability_zone": guest.zone,
        "launch_index": created.launch_index,
    }
    if created.metadata:
        document["meta"] = dict(created.metadata)
    if created.tags:
        document["tags"] = list(created.tags)
    if created.public_key:
        document["public_keys"] = {created.key_pair_name: guest.public_key}
        document["keys"] = [{"name": created.key_pair_name, "type": "ssh", "data": guest.public_key}]
    if _has(version, "2013-04-04"):
        document["random_seed"] = base64.b64encode(cloud.random_bytes(SEED_BYTES)).decode()
    if _has(version, "2015-10-15"):
        document["project_id"] = created.project_id
    if _has(version, "2016-06-30"):
        # Those with a role that the user gave them: none, since neither disks nor NICs can be given one.
        document["devices"] = []
    if _has(version, "2020-10-14"):
        # Guests' CPUs are not pinned.
        document["dedicated_cpus"] = []
    return document


def _has(version: str, since: str) -> bool:
    return version == LATEST or since <= version
