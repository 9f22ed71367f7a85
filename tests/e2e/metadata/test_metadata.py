"""What real cloud-init makes of its metadata, told by itself in the guest, against what the API tells of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from cirra_sdk.errors import NotFound
from core.ids import last_segment, tap_device
from tests.e2e.metadata.conftest import PROPERTIES, TAGS, VENDOR_DATA, Booted

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(1500),
]

METADATA = "http://169.254.169.254"
CURL = "curl --silent --show-error --max-time 20"
STATUS = f"{CURL} --output /dev/null --write-out '%{{http_code}}'"


def short(prefix: str, uid: str) -> str:
    return f"{prefix}-{uid[-8:]}"


def fqdn(booted: Booted) -> str:
    return f"{booted.instance.hostname}.novalocal"


async def test_cloud_init_ends_well_with_the_source_that_was_forced(booted: Booted) -> None:
    status = await booted.run("cloud-init status --long; cat /run/cloud-init/result.json")
    assert "status: done" in status and '"errors": []' in status
    assert f"DataSource{booted.data_source}" in await booted.run("sudo cat /var/lib/cloud/instance/datasource")


async def test_query_names_the_instance_as_the_api_does(booted: Booted) -> None:
    told, instance = booted.query["v1"], booted.instance
    cloud = {"OpenStack": ("openstack", instance.uid), "Ec2": ("ec2", short("i", instance.uid))}
    assert (told["platform"], told["instance_id"]) == cloud[booted.data_source]
    assert told["local_hostname"] == instance.hostname == (await booted.run("hostname")).strip()
    assert told["availability_zone"] == instance.availability_zone
    assert [key.strip() for key in told["public_ssh_keys"]] == [booted.key_pair.public_key]
    assert (await booted.run("cloud-init query v1.instance_id")).strip() == told["instance_id"]


async def test_query_has_all_of_openstacks_documents(booted: Booted) -> None:
    if booted.data_source != "OpenStack":
        assert "network_json" not in booted.query["ds"]
        return
    told, instance = booted.query["ds"], booted.instance
    expected = {
        "uuid": instance.uid,
        "name": instance.display_name,
        "hostname": fqdn(booted),
        "project_id": instance.project_id,
        "availability_zone": instance.availability_zone,
        "meta": dict(instance.metadata),
        "tags": list(instance.tags),
    }
    assert {key: told["meta_data"][key] for key in expected} == expected
    assert (expected["meta"], expected["tags"]) == (PROPERTIES, TAGS)
    nics = instance.nics
    assert [(link["id"], link["vif_id"], link["ethernet_mac_address"]) for link in told["network_json"]["links"]] == [
        (tap_device(last_segment(nic.port)), last_segment(nic.port), nic.mac_address) for nic in nics
    ]
    assert [network["network_id"] for network in told["network_json"]["networks"]] == [
        last_segment(nic.network) for nic in nics
    ]
    assert told["network_json"]["services"] == [{"type": "dns", "address": "9.9.9.9"}]
    _check_ec2(booted, told["ec2_metadata"])


async def test_query_has_all_of_ec2s_tree(booted: Booted) -> None:
    if booted.data_source != "Ec2":
        assert "meta-data" not in booted.query["ds"]
        return
    _check_ec2(booted, booted.query["ds"]["meta-data"])


def _check_ec2(booted: Booted, told: Any) -> None:
    instance = booted.instance
    expected = {
        "ami-id": short("ami", instance.image),
        "instance-id": short("i", instance.uid),
        "instance-type": instance.flavor_summary.display_name,
        "hostname": fqdn(booted),
        "local-hostname": fqdn(booted),
        "local-ipv4": instance.nics[0].fixed_ip,
        "mac": instance.nics[0].mac_address,
        "placement": {"availability-zone": instance.availability_zone},
        "public-keys": {booted.key_pair.display_name: [booted.key_pair.public_key]},
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "tags": {"instance": PROPERTIES},
    }
    assert {key: told[key] for key in expected} == expected
    macs = told["network"]["interfaces"]["macs"]
    assert {mac: nic["local-ipv4s"] for mac, nic in macs.items()} == {
        nic.mac_address: nic.fixed_ip for nic in instance.nics
    }


async def test_both_nics_are_up_since_metadata_told_of_them(booted: Booted) -> None:
    addresses = await booted.run("ip -4 -o addr")
    assert all(f"{nic.fixed_ip}/24" in addresses for nic in booted.instance.nics)


async def test_the_root_disk_is_where_the_mapping_says(booted: Booted) -> None:
    assert (await booted.run("findmnt --noheadings --output SOURCE /")).strip() == "/dev/vda1"


async def test_user_data_came_whole_and_was_acted_on(booted: Booted) -> None:
    digest = (await booted.run("sudo sha256sum /var/lib/cloud/instance/user-data.txt")).split()[0]
    assert digest == hashlib.sha256(booted.user_data).hexdigest()
    assert (await booted.run("cat /etc/from-user-data")) == "all of it"
    again = await booted.run(f"{CURL} {METADATA}/latest/user-data | sha256sum")
    assert again.split()[0] == digest


async def test_vendor_data_came_and_were_acted_on(booted: Booted) -> None:
    """EC2 has none."""
    if booted.data_source == "OpenStack":
        assert booted.query["vendordata"] == VENDOR_DATA["cloud-init"]
        assert (await booted.run("cat /run/from-vendor")).strip() == "from the vendor"
    else:
        assert not booted.query.get("vendordata")
        assert await booted.run("ls /run/from-vendor || echo nothing") == "nothing\n"


async def test_a_session_token_in_the_guest(booted: Booted) -> None:
    ttl = "-X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'"
    token = await booted.run(f"{CURL} --fail {ttl} {METADATA}/latest/api/token")
    own = f"-H 'X-aws-ec2-metadata-token: {token}' {METADATA}/latest/meta-data/instance-id"
    assert await booted.run(f"{CURL} {own}") == short("i", booted.instance.uid)
    statuses = {
        f"-H 'X-aws-ec2-metadata-token: nonsense' {METADATA}/latest/meta-data/": "401",
        f"-X PUT {METADATA}/latest/api/token": "400",
        f"{ttl} -H 'X-Forwarded-For: 10.0.0.1' {METADATA}/latest/api/token": "403",
        f"{METADATA}/latest/meta-data/nothing": "404",
    }
    for question, status in statuses.items():
        assert await booted.run(f"{STATUS} {question}") == status, question


async def test_a_password_that_the_guest_posts_is_its_owners_to_read(booted: Booted) -> None:
    with pytest.raises(NotFound):
        await booted.user.instances.password(booted.instance.name)
    url = f"{METADATA}/openstack/2013-04-04/password"
    assert await booted.run(f"{STATUS} --data-binary c2VjcmV0 {url}") == "200"
    assert await booted.run(f"{STATUS} --data-binary b3RoZXI= {url}") == "409"
    assert await booted.run(f"{CURL} {url}") == "c2VjcmV0"
    assert (await booted.user.instances.password(booted.instance.name)).password == b"c2VjcmV0"


async def test_the_cloud_knows_that_the_guest_has_its_metadata(booted: Booted) -> None:
    assert booted.instance.HasField("metadata_fetch_time")
    for nic in booted.instance.nics:
        assert nic.fixed_ip == nic.leased_ip == nic.seen_ip
