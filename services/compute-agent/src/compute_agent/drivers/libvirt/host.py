"""What libvirt says about the host, as blocking functions of a `virConnect`."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

# libvirt resolves an alias when it defines a domain, so that the guest keeps its machine over QEMU's upgrades.
_MACHINES = {"x86_64": "pc"}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`machine`: the machine type for guests; empty: libvirt's default. `version`: of QEMU and libvirt."""

    arch: str
    cpu_model: str
    machine: str
    emulator: str
    version: str


def capabilities(connection: Any, virt_type: str) -> Capabilities:
    """What the host has for guests of a type ("kvm", "qemu")."""
    cpu = ET.fromstring(connection.getCapabilities()).find("host/cpu")
    arch = "" if cpu is None else cpu.findtext("arch", "")
    machine = _MACHINES.get(arch, "")
    domain = ET.fromstring(connection.getDomainCapabilities(None, arch, machine or None, virt_type))
    return Capabilities(
        arch=arch,
        cpu_model="" if cpu is None else cpu.findtext("model", ""),
        machine=machine,
        emulator=domain.findtext("path", ""),
        version=f"QEMU {_version(connection.getVersion())}, libvirt {_version(connection.getLibVersion())}",
    )


def _version(number: int) -> str:
    """7002022 → "7.2.22"."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
