"""The trees that guests walk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from metadata import ec2, openstack
from metadata.guest import FixedIp, FloatingIp, Guest, Subnet
from metadata.guests import mac_of_link_local
from metadata.openstack import Cloud
from metadata.root import root
from metadata.tree import Secret, Value, find
from tests.unit.metadata.guests import BARE, CLOUD, FIRST, GUEST, KEY, SECOND, created
from tests.unit.metadata.walk import FOLDER, golden


def read(path: str, of: Guest = GUEST, cloud: Cloud = CLOUD) -> Value | None:
    return find(root(of, cloud), path)


def lines(path: str, of: Guest = GUEST) -> list[str]:
    listing = read(path, of)
    assert isinstance(listing, str)
    return listing.splitlines()


@pytest.mark.parametrize("file", sorted(golden()))
def test_each_version_is_as_recorded(file: str) -> None:
    """What has changed, has changed for guests that are out there: python -m tests.unit.metadata.walk."""
    assert golden()[file] == (FOLDER / file).read_text()


def test_nothing_recorded_is_without_a_version() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(golden())


def test_ec2_lists_what_operators_look_for() -> None:
    assert lines("/2009-04-04/meta-data") == [
        "ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/", "hostname", "instance-action",
        "instance-id", "instance-type", "local-hostname", "local-ipv4", "placement/", "public-hostname", "public-ipv4",
        "public-keys/", "reservation-id", "security-groups",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/latest/meta-data/instance-id", "i-000000ff"),
        ("/latest/meta-data/local-ipv4", "192.168.1.101"),
        ("/latest/meta-data/hostname", "demo.novalocal"),
        ("/latest/meta-data/instance-type", "m1.small"),
        ("/latest/meta-data/placement/availability-zone", "north-1"),
        ("/latest/meta-data/public-keys/", "0=mine"),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/latest/meta-data/public-keys/0/openssh-key", f"{KEY}\n"),
        ("/2009-04-04/meta-data/public-keys/0/openssh-key", f"{KEY}\n"),
        ("/latest/user-data", Secret.USER_DATA),
        ("/openstack/latest/user_data", Secret.USER_DATA),
        ("/openstack/latest/password", Secret.PASSWORD),
        ("/latest", "meta-data/\nuser-data"),
    ],
)
@pytest.mark.parametrize("spelling", ["{}", "{}/", "/{}", "{}//"])
def test_single_values_however_many_slashes(path: str, content: Value, spelling: str) -> None:
    assert read(spelling.format(path)) == content


def test_version_lists() -> None:
    assert lines("/openstack") == [*openstack.VERSIONS, "latest"]
    assert lines("/") == lines("/ec2") == [*ec2.VERSIONS, "latest"]
    assert read("/ec2/2009-04-04/meta-data/ami-id") == read("/2009-04-04/meta-data/ami-id")


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/{}/meta-data/public-ipv4", "2007-01-19"),
        ("/{}/meta-data/instance-type", "2007-08-29"),
        ("/{}/meta-data/block-device-mapping/root", "2007-12-15"),
        ("/{}/meta-data/placement/availability-zone", "2008-02-01"),
        ("/{}/meta-data/instance-action", "2008-09-01"),
        ("/{}/meta-data/mac", "2011-01-01"),
        ("/{}/meta-data/tags/instance/role", "2021-03-23"),
        ("/openstack/{}/password", "2013-04-04"),
        ("/openstack/{}/vendor_data.json", "2013-10-17"),
        ("/openstack/{}/network_data.json", "2015-10-15"),
        ("/openstack/{}/vendor_data2.json", "2016-10-06"),
    ],
)
def test_what_a_version_brought_is_in_no_earlier_one(path: str, first: str) -> None:
    versions = openstack.VERSIONS if path.startswith("/openstack") else ec2.VERSIONS
    having = [version for version in (*versions, "latest") if read(path.format(version)) is not None]
    assert having == [*versions[versions.index(first) :], "latest"]


def test_each_answer_has_a_seed_of_its_own() -> None:
    seeds = iter((b"a" * 512, b"b" * 512))
    cloud = Cloud(random_bytes=lambda count: next(seeds))
    first, second = (json.loads(str(read("/openstack/latest/meta_data.json", cloud=cloud))) for _ in range(2))
    assert first["random_seed"] != second["random_seed"]


def test_a_host_without_a_zone_is_in_the_usual_one() -> None:
    without = replace(GUEST, host_zone="")
    assert read("/latest/meta-data/placement/availability-zone", without) == "nova"


def test_the_floating_ip_of_the_first_interface_that_has_one_is_public() -> None:
    assert read("/latest/meta-data/public-ipv4") == "203.0.113.7"
    late = replace(SECOND, floating_ips=(FloatingIp("203.0.113.9", "10.20.0.7"),))
    assert read("/latest/meta-data/public-ipv4", replace(GUEST, nics=(replace(FIRST, floating_ips=()), late))) == (
        "203.0.113.9"
    )
    assert read("/latest/meta-data/public-ipv4", BARE) == read("/latest/meta-data/security-groups", BARE) == ""


def test_network_data_has_each_nic_in_its_place() -> None:
    document = json.loads(str(read("/openstack/latest/network_data.json")))
    assert [link["ethernet_mac_address"] for link in document["links"]] == [FIRST.mac_address, SECOND.mac_address]
    assert [network["link"] for network in document["networks"]] == [link["id"] for link in document["links"]]
    unwired = replace(GUEST, nics=(replace(FIRST, fixed_ips=()), SECOND))
    [link] = json.loads(str(read("/openstack/latest/network_data.json", unwired)))["links"]
    assert link["ethernet_mac_address"] == SECOND.mac_address


def test_a_cloud_without_vendor_data_has_empty_documents() -> None:
    cloud = Cloud(random_bytes=bytes)
    assert json.loads(str(read("/openstack/latest/vendor_data.json", cloud=cloud))) == {}
    assert json.loads(str(read("/openstack/latest/vendor_data2.json", cloud=cloud))) == {"static": {}}


@pytest.mark.parametrize("path", ["/latest/user-data", "/openstack/latest/user_data"])
def test_no_user_data_is_not_found(path: str) -> None:
    assert read(path, BARE) is None


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/secret",
        "/latest/meta-data/hostname/deeper",
        "/latest/meta-data/public-keys/1",
        "/2009-04-05/meta-data/",
        "/openstack/2009-04-04",
        "/openstack/latest/openstack",
        "/../etc",
        "/latest/meta-data/../../openstack",
    ],
)
def test_what_is_not_there_is_none(path: str) -> None:
    assert read(path) is None


@pytest.mark.parametrize("key", ["..", ".", "a/b", "a=b", "two words", "umläut"])
def test_a_property_whose_key_is_no_part_of_a_path_is_no_tag(key: str) -> None:
    guest = replace(GUEST, created=created(metadata=None))
    guest.created.metadata[key] = "value"
    assert "tags/" not in lines("/latest/meta-data", guest)
    assert json.loads(str(read("/openstack/latest/meta_data.json", guest)))["meta"] == {key: "value"}


def test_ipv6_is_told_beside_ipv4() -> None:
    six = Subnet("0197a000-0000-7000-8000-00000000cc06", "fd00:1::/64", "fd00:1::1", dhcp=True, nameservers=())
    static = replace(six, cidr="fd00:9::/120", gateway="fd00:9::1", dhcp=False)
    dual = replace(FIRST, fixed_ips=(*FIRST.fixed_ips, FixedIp("fd00:1::f8", six)))
    only_six = replace(SECOND, fixed_ips=(FixedIp("fd00:9::7", static),))
    guest = replace(GUEST, nics=(dual, only_six))
    networks = json.loads(str(read("/openstack/latest/network_data.json", guest)))["networks"]
    assert [each["type"] for each in networks] == ["ipv4_dhcp", "ipv6_slaac", "ipv6"]
    assert networks[2]["routes"] == [{"network": "::", "netmask": "::", "gateway": "fd00:9::1"}]
    of_first = f"/latest/meta-data/network/interfaces/macs/{FIRST.mac_address}"
    assert read(f"{of_first}/ipv6s", guest) == "fd00:1::f8"
    assert read(f"{of_first}/local-ipv4s", guest) == "192.168.1.101\n192.168.1.102"
    assert read("/latest/meta-data/local-ipv4", replace(guest, nics=(only_six,))) == ""


@pytest.mark.parametrize(
    ("address", "mac_address"),
    [
        ("fe80::f816:3eff:fe00:1", "fa:16:3e:00:00:01"),
        ("fe80::1", None),
        ("fd00::f816:3eff:fe00:1", None),
        ("10.0.0.9", None),
    ],
)
def test_a_link_s_own_address_tells_who_asks(address: str, mac_address: str | None) -> None:
    assert mac_of_link_local(address) == mac_address
