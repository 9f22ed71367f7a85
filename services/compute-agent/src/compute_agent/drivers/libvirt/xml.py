"""The domain XML of a `DomainSpec`, and what is read back from it. Pure.

Reference: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from cirra.agent.v1.desired_pb2 import DomainSpec, NicSpec

NAMESPACE = "https://cirra.dev/xmlns/domain/1"
PREFIX = "cirra"

ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What the host, not the spec, decides about a domain.

    `machine`: libvirt's machine type or alias ("pc"); empty: libvirt's default for `arch`.
    `disk_cache`: "none" where the file system can bypass the page cache, else "writeback".
    """

    arch: str
    machine: str
    emulator: str
    disk: Path
    disk_cache: str
    console_log: Path


def domain_name(instance_id: UUID | str) -> str:
    """The name of an instance's domain; libvirt wants it unique on a host, and the same after a migration."""
    return f"cirra-{instance_id}"


def domain_xml(spec: DomainSpec, generation: int, placement: Placement) -> str:
    """The XML that defines the domain of `spec`. The same arguments give the same text."""
    domain = ET.Element("domain", type=spec.virt_type)
    _text(domain, "name", domain_name(spec.instance_id))
    _text(domain, "uuid", spec.instance_id)
    _text(domain, "title", spec.display_name.replace("\n", " ") or spec.instance_id)
    _add_metadata(domain, spec, generation)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus))
    _add_firmware(domain, spec, placement)
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    _add_cpu(domain, spec.virt_type)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(domain, f"on_{event}", action)
    devices = ET.SubElement(domain, "devices")
    _text(devices, "emulator", placement.emulator)
    _add_disk(devices, spec, placement)
    for nic in spec.nics:
        _add_nic(devices, nic)
    _add_console(devices, placement)
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", model="virtio")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _add_metadata(domain: ET.Element, spec: DomainSpec, generation: int) -> None:
    """Cirra's own element: a domain without it is not ours."""
    instance = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{NAMESPACE}}}instance")
    instance.set("id", spec.instance_id)
    instance.set("project", spec.project_id)
    instance.set("generation", str(generation))
    instance.set("boot", str(spec.boot))


def boot_of(metadata: str) -> int:
    """The boot in Cirra's own element, as libvirt gives it; 0 for a guest that was defined without one."""
    return int(ET.fromstring(metadata).get("boot", "0"))


def _add_firmware(domain: ET.Element, spec: DomainSpec, placement: Placement) -> None:
    """Firmware tables by which cloud-init knows an OpenStack cloud; without them it skips that datasource."""
    os = ET.SubElement(domain, "os")
    machine = {"machine": placement.machine} if placement.machine else {}
    _text(os, "type", "hvm", arch=placement.arch, **machine)
    ET.SubElement(os, "boot", dev="hd")
    ET.SubElement(os, "smbios", mode="sysinfo")
    system = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "system")
    entries = {
        "manufacturer": "OpenStack Foundation",
        "product": "OpenStack Nova",
        "serial": spec.instance_id,
        "uuid": spec.instance_id,
        "family": "Virtual Machine",
    }
    for name, value in entries.items():
        _text(system, "entry", value, name=name)


def _add_cpu(domain: ET.Element, virt_type: str) -> None:
    """KVM guests see the host's model, as a baseline that migrates; the emulator has one that it knows whole."""
    if virt_type == "kvm":
        ET.SubElement(domain, "cpu", mode="host-model")
        return
    cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
    _text(cpu, "model", "qemu64", fallback="forbid")


def _add_disk(devices: ET.Element, spec: DomainSpec, placement: Placement) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", cache=placement.disk_cache, discard="unmap")
    ET.SubElement(disk, "source", file=str(placement.disk))
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    # virtio-blk shows twenty characters.
    _text(disk, "serial", UUID(spec.instance_id).hex[:20])


def nic_xml(nic: NicSpec) -> str:
    """One NIC, as it is plugged into a guest that runs."""
    devices = ET.Element("devices")
    _add_nic(devices, nic)
    return ET.tostring(devices[0], encoding="unicode")


def nic_alias(port_id: str) -> str:
    """What libvirt and QEMU call a port's NIC; a name that is given to them begins with "ua-"."""
    return f"ua-{port_id}"


def ports_of(definition: str) -> frozenset[str]:
    """The ports that a domain has NICs of."""
    aliases = (alias.get("name", "") for alias in ET.fromstring(definition).iterfind("devices/interface/alias"))
    prefix = nic_alias("")
    return frozenset(name.removeprefix(prefix) for name in aliases if name.startswith(prefix))


def _add_nic(devices: ET.Element, nic: NicSpec) -> None:
    """A tap that the net-agent has made: QEMU opens it, libvirt leaves it as it is."""
    interface = ET.SubElement(devices, "interface", type="ethernet")
    ET.SubElement(interface, "mac", address=nic.mac_address)
    ET.SubElement(interface, "target", dev=nic.device, managed="no")
    ET.SubElement(interface, "model", type="virtio")
    ET.SubElement(interface, "driver", name="qemu")
    if nic.mtu:
        ET.SubElement(interface, "mtu", size=str(nic.mtu))
    ET.SubElement(interface, "alias", name=nic_alias(nic.port_id))


def _add_console(devices: ET.Element, placement: Placement) -> None:
    """The serial console, kept in a file by virtlogd, and VNC on a unix socket whose path libvirt chooses."""
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(placement.console_log), append="on")
    ET.SubElement(serial, "target", port="0")
    graphics = ET.SubElement(devices, "graphics", type="vnc")
    ET.SubElement(graphics, "listen", type="socket")
    ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def same_definition(ours: str, defined: str) -> bool:
    """Does the domain that libvirt holds say what `ours` says?

    libvirt adds addresses, aliases, controllers and defaults of its own, so only what `ours` names is compared.
    """
    return _covers(ET.fromstring(defined), ET.fromstring(ours))


# libvirt resolves the alias ("pc" → "pc-i440fx-7.2") and rewrites sizes in KiB.
_REWRITTEN: Mapping[str, frozenset[str]] = {"type": frozenset({"machine"}), "memory": frozenset({"unit"})}
_KIB = {"KiB": 1, "MiB": 1024, "GiB": 1024 * 1024}


def _covers(theirs: ET.Element, ours: ET.Element) -> bool:
    """Has `theirs` every attribute, text and child of `ours`? Children match in any order, each once."""
    ignored = _REWRITTEN.get(ours.tag, frozenset())
    if any(theirs.get(name) != value for name, value in ours.attrib.items() if name not in ignored):
        return False
    if _value(theirs) != _value(ours):
        return False
    left = list(theirs)
    for child in ours:
        match = next((other for other in left if other.tag == child.tag and _covers(other, child)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _value(element: ET.Element) -> str:
    text = (element.text or "").strip()
    if element.tag == "memory":
        return str(int(text) * _KIB[element.get("unit", "KiB")])
    return text
