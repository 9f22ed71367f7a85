"""The domain's XML: what the spec says, and whether libvirt holds the same."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from cirra.agent.v1.desired_pb2 import DomainSpec, NicSpec
from compute_agent.drivers.libvirt.xml import NAMESPACE, Placement, domain_name, domain_xml, same_definition

ID = "0197a000-0000-7000-8000-00000000aa01"
SPEC = DomainSpec(
    instance_id=ID,
    display_name='a <b> & "c"\nd',
    hostname="web",
    project_id="p1",
    vcpus=2,
    memory_mib=512,
    disk_gib=10,
    virt_type="qemu",
    nics=[
        NicSpec(
            port_id="0197a000-0000-7000-8000-00000000bb01",
            mac_address="fa:16:3e:00:00:01",
            device="tap0000000bb01",
            mtu=1450,
        )
    ],
)
PLACEMENT = Placement(
    arch="x86_64",
    machine="pc",
    emulator="/usr/bin/qemu-system-x86_64",
    disk=Path("/state/instances/x/disk"),
    disk_cache="none",
    console_log=Path("/state/instances/x/console.log"),
)


def changed(**fields: object) -> DomainSpec:
    spec = DomainSpec()
    spec.CopyFrom(SPEC)
    spec.MergeFrom(DomainSpec(**fields))  # type: ignore[arg-type]
    return spec


def defined_by_libvirt(xml: str) -> str:
    """What libvirt 9 makes of it: other units, resolved aliases, and much of its own."""
    domain = ET.fromstring(xml)
    memory = domain.find("memory")
    assert memory is not None
    memory.text, memory.attrib["unit"] = str(512 * 1024), "KiB"
    machine = domain.find("os/type")
    assert machine is not None
    machine.attrib["machine"] = "pc-i440fx-7.2"
    domain.find("vcpu").attrib["placement"] = "static"  # type: ignore[union-attr]
    ET.SubElement(domain, "clock", offset="utc")
    devices = domain.find("devices")
    assert devices is not None
    ET.SubElement(devices, "controller", type="usb", index="0")
    for device in devices:
        ET.SubElement(device, "address", type="pci", slot="0x03")
    devices[:] = sorted(devices, key=lambda device: device.tag)
    return ET.tostring(domain, encoding="unicode")


def test_the_essentials() -> None:
    domain = ET.fromstring(domain_xml(SPEC, 7, PLACEMENT))
    assert domain.get("type") == "qemu"
    assert domain.findtext("name") == domain_name(ID) == f"cirra-{ID}"
    assert domain.findtext("uuid") == ID
    assert domain.findtext("title") == 'a <b> & "c" d'
    assert (domain.findtext("memory"), domain.findtext("vcpu")) == ("512", "2")
    instance = domain.find(f"metadata/{{{NAMESPACE}}}instance")
    assert instance is not None
    assert instance.attrib == {"id": ID, "project": "p1", "generation": "7", "boot": "0"}


def test_cloud_init_is_told_that_this_is_openstack() -> None:
    domain = ET.fromstring(domain_xml(SPEC, 1, PLACEMENT))
    entries = {entry.get("name"): entry.text for entry in domain.iterfind("sysinfo/system/entry")}
    assert entries["manufacturer"] == "OpenStack Foundation"
    assert entries["product"] == "OpenStack Nova"
    assert entries["uuid"] == entries["serial"] == ID
    smbios = domain.find("os/smbios")
    assert smbios is not None
    assert smbios.get("mode") == "sysinfo"


def test_a_nic_is_a_tap_that_libvirt_does_not_manage() -> None:
    nic = ET.fromstring(domain_xml(SPEC, 1, PLACEMENT)).find("devices/interface")
    assert nic is not None
    assert nic.get("type") == "ethernet"
    found = {child.tag: child.attrib for child in nic}
    assert found["target"] == {"dev": "tap0000000bb01", "managed": "no"}
    assert found["mac"] == {"address": "fa:16:3e:00:00:01"}
    assert found["mtu"] == {"size": "1450"}
    assert found["model"] == {"type": "virtio"}


def test_the_disk_has_an_explicit_format_and_no_port_is_open() -> None:
    domain = ET.fromstring(domain_xml(SPEC, 1, PLACEMENT))
    driver = domain.find("devices/disk/driver")
    assert driver is not None
    assert (driver.get("type"), driver.get("cache")) == ("qcow2", "none")
    listen = domain.find("devices/graphics/listen")
    assert listen is not None
    assert listen.attrib == {"type": "socket"}


def test_the_processor_fits_the_type_of_guest() -> None:
    emulated = ET.fromstring(domain_xml(SPEC, 1, PLACEMENT)).find("cpu")
    accelerated = ET.fromstring(domain_xml(changed(virt_type="kvm"), 1, PLACEMENT)).find("cpu")
    assert emulated is not None
    assert accelerated is not None
    assert emulated.findtext("model") == "qemu64"
    assert accelerated.get("mode") == "host-model"


def test_the_same_spec_gives_the_same_text() -> None:
    assert domain_xml(SPEC, 1, PLACEMENT) == domain_xml(SPEC, 1, PLACEMENT)


def test_what_libvirt_adds_is_no_difference() -> None:
    xml = domain_xml(SPEC, 1, PLACEMENT)
    assert same_definition(xml, defined_by_libvirt(xml))


def test_what_we_change_is_a_difference() -> None:
    defined = defined_by_libvirt(domain_xml(SPEC, 1, PLACEMENT))
    others = [
        domain_xml(SPEC, 2, PLACEMENT),
        domain_xml(changed(memory_mib=1024), 1, PLACEMENT),
        domain_xml(changed(vcpus=4), 1, PLACEMENT),
        domain_xml(changed(nics=[NicSpec(port_id=ID, mac_address="fa:16:3e:00:00:02", device="tapx")]), 1, PLACEMENT),
        domain_xml(SPEC, 1, replace(PLACEMENT, disk=Path("/elsewhere"))),
        domain_xml(SPEC, 1, replace(PLACEMENT, disk_cache="writeback")),
    ]
    assert [same_definition(other, defined) for other in others] == [False] * len(others)


def test_two_nics_don_t_match_one() -> None:
    twice = changed(nics=[SPEC.nics[0]])
    assert not same_definition(domain_xml(twice, 1, PLACEMENT), defined_by_libvirt(domain_xml(SPEC, 1, PLACEMENT)))
