"""By what a host can: how it runs guests, its processor, its traits."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import partial

from cirra.placement.v1 import placement_pb2 as public
from cirra.placement.v1 import scheduling_pb2 as scheduling
from placement.hosts.table import HostTable
from placement.scheduling.filters.base import Mask, all_of
from placement.scheduling.filters.extra_specs import CAPABILITIES_SCOPE, TRAIT_SCOPE, predicate, scoped

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686"}
_NO = ("", "0", "false", "no", "off")
_COMPARISONS: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_VERSION = re.compile(r"(==|!=|>=|<=|=|>|<)?\s*(\d+(?:\.\d+)*)")


class VirtType:
    """It runs guests at all, and in the way that the flavor or the image asks for (`hw_virt_type`: "kvm")."""

    name = "virt_type"
    ignores_claims = True
    remedy = "ask for another virt type, or for none"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        wanted = wanted_virt_type(request)
        return hosts.virt_types.having_any(len(hosts), [wanted] if wanted else None)


def wanted_virt_type(request: scheduling.ClaimRequest) -> str:
    """What the flavor asks for, else what the image does; empty: any."""
    return request.extra_specs.get("hw:virt_type", "") or request.image_properties.get("hw_virt_type", "")


class ComputeCapabilities:
    """The flavor's extra specs in the scope `capabilities` are true of it: nova's ComputeCapabilitiesFilter.

    Keys: cpu_arch, cpu_model, hypervisor_version, hypervisor_type, vcpus_total, memory_mib_total, disk_gib_total, and
    the traits of its inventory ("net.network_driver").
    """

    name = "compute_capabilities"
    ignores_claims = True
    remedy = "choose a flavor with other extra specs, or add such a host"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        left = all_of(hosts)
        for key, requirement in scoped(request.extra_specs, CAPABILITIES_SCOPE):
            will_do = predicate(requirement)
            if key == "hypervisor_type":
                accepted = filter(will_do, hosts.virt_types.labels)
                left &= hosts.virt_types.having_any(len(hosts), accepted)
            else:
                left &= _attribute(hosts, key, will_do)
        return left


class ImageProperties:
    """It can run the image: `hw_architecture`, `img_hv_type` and `img_hv_requested_version`, as nova's
    ImagePropertiesFilter has them. A host that does not tell its architecture is taken to have any.
    """

    name = "image_properties"
    ignores_claims = True
    remedy = "use an image for these hosts, or add hosts for the image"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        properties, left = request.image_properties, all_of(hosts)
        architecture = properties.get("hw_architecture", "") or properties.get("architecture", "")
        if architecture:
            wanted = _canonical(architecture)
            left &= _attribute(hosts, "cpu_arch", lambda arch: not arch or _canonical(arch) == wanted)
        hypervisor = properties.get("img_hv_type", "") or properties.get("hypervisor_type", "")
        if hypervisor:
            # nova calls both of these QEMU.
            kinds = ("qemu", "kvm") if hypervisor.lower() == "qemu" else (hypervisor.lower(),)
            left &= hosts.virt_types.having_any(len(hosts), kinds)
        versions = properties.get("img_hv_requested_version", "")
        if versions:
            left &= _attribute(hosts, "hypervisor_version", lambda version: version_fits(version, versions))
        return left


class Traits:
    """It has the traits that flavor and image require, and none that they forbid: `trait:NAME` is "required" or
    "forbidden". NAME is a trait of its inventory, with or without the agent that tells it, in upper or lower case.
    """

    name = "traits"
    ignores_claims = True
    remedy = "choose a flavor or image without that trait, or add such a host"

    def mask(self, hosts: HostTable, request: scheduling.ClaimRequest) -> Mask:
        left = all_of(hosts)
        for specs in (request.extra_specs, request.image_properties):
            for trait, requirement in scoped(specs, TRAIT_SCOPE):
                has = hosts.attribute(f"trait:{trait}", partial(_trait, trait)).matching(bool, len(hosts))
                left &= ~has if requirement == "forbidden" else has
        return left


def version_fits(version: str, requirements: str) -> bool:
    """Whether a version is all that is asked: ">=6.0, <9". What can't be read fits nothing."""
    have = _numbers(version)
    for requirement in requirements.split(","):
        found = _VERSION.fullmatch(requirement.strip())
        if have is None or found is None:
            return False
        wanted = tuple(int(part) for part in found[2].split("."))
        width = max(len(have), len(wanted))
        if not _COMPARISONS[found[1] or "=="](_padded(have, width), _padded(wanted, width)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...] | None:
    found = re.search(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else None


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return numbers + (0,) * (width - len(numbers))


def _attribute(hosts: HostTable, key: str, will_do: Callable[[str], bool]) -> Mask:
    return hosts.attribute(key, lambda inventory: _value(inventory, key)).matching(will_do, len(hosts))


def _value(inventory: public.Inventory, key: str) -> str:
    match key:
        case "cpu_arch" | "cpu_model" | "hypervisor_version":
            return str(getattr(inventory, key))
        case "vcpus_total" | "memory_mib_total" | "disk_gib_total":
            return str(getattr(inventory, key.removesuffix("_total")))
        case _:
            return inventory.traits.get(key, "")


def _trait(name: str, inventory: public.Inventory) -> str:
    """Not empty when the inventory has it."""
    wanted = name.lower()
    for key, value in inventory.traits.items():
        known = key.lower()
        if wanted in (known, known.partition(".")[2]) and value.lower() not in _NO:
            return value
    return ""


def _canonical(architecture: str) -> str:
    lower = architecture.lower()
    return _ARCHITECTURES.get(lower, lower)
