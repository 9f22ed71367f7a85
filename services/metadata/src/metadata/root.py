"""Both trees under one root. Pure."""

from __future__ import annotations

from metadata import ec2, openstack
from metadata.guest import Guest
from metadata.openstack import Cloud
from metadata.tree import Directory


def root(guest: Guest, cloud: Cloud) -> Directory:
    """Everything, from `/` down; the listing of `/` has EC2's versions alone, as Nova's."""
    versions = ec2.tree(guest)
    return versions.also({"ec2": versions, "openstack": lambda: openstack.tree(guest, cloud)})
