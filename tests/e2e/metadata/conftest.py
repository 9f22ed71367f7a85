"""`guest`: a Debian guest of a cloud with vendor data, once for each data source that is forced upon it."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from cirra.compute.v1.compute_pb2 import Instance, KeyPair
from cirra_sdk import AsyncClient
from core.ids import last_segment
from deployment.demo.facts import wait_seen, wait_settled
from deployment.demo.guest import Output, SshGuest, reach, wait_login
from deployment.demo.key import new_key
from deployment.demo.tenant import Tenant, make_tenant
from tests.e2e.cloud import Cloud, running_cloud
from tests.e2e.metadata.image import forced
from tests.harness.log_watch import LogWatch
from tests.harness.root import require_root

MAX_USER_DATA_BYTES = 65_536
PROPERTIES = {"role": "web", "owner": "Zoë"}
TAGS = ["blue", "green"]
SECOND_CIDR = "10.43.0.0/24"
VENDOR_DATA = {
    "cloud-init": "#cloud-config\nbootcmd:\n  - [sh, -c, 'echo from the vendor > /run/from-vendor']\n",
    "site": "north",
}
BOOT_TIMEOUT_S = 600.0
LOGIN_PATIENCE_S = 120.0
SSH_FAILED = 255


@dataclass(frozen=True, slots=True)
class Booted:
    """`instance`: as the API tells it. `query`: all that `cloud-init query` tells in the guest."""

    data_source: str
    user: AsyncClient
    instance: Instance
    key_pair: KeyPair
    user_data: bytes
    guest: SshGuest
    query: Any

    async def run(self, script: str) -> str:
        """What a script prints in the guest, once it has ended well."""
        output = await patiently(self.guest, script)
        assert output.code == 0, f"{script}: {output.error or output.text}"
        return output.text


async def patiently(guest: SshGuest, script: str) -> Output:
    """Runs a script in the guest, where ssh may take longer to let us in than it has patience for (ssh(1): 255)."""
    deadline = time.monotonic() + LOGIN_PATIENCE_S
    while (output := await guest.run(script)).code == SSH_FAILED and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(1)
    return output


@asynccontextmanager
async def cloud_with_vendor_data(log_watch: LogWatch) -> AsyncIterator[Cloud]:
    with log_watch.folder("cirra-e2e-") as state_dir:
        vendor_data = state_dir / "vendor-data.json"
        vendor_data.write_text(json.dumps(VENDOR_DATA))
        async with running_cloud(state_dir / "cloud", {"CIRRA_VENDOR_DATA_FILE": str(vendor_data)}) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vendor_cloud(log_watch: LogWatch) -> AsyncIterator[Cloud]:
    require_root("guests, bridges, namespaces")
    async with cloud_with_vendor_data(log_watch) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["OpenStack", "Ec2"])
async def booted(
    request: pytest.FixtureRequest, vendor_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Booted]:
    data_source, folder = request.param, tmp_path_factory.mktemp("guest")
    image = await asyncio.to_thread(forced, data_source, folder)
    async with vendor_cloud.admin() as admin:
        tenant = await make_tenant(admin, image, "debian", new_key(folder / "id", "e2e"), print)
        user_data = user_data_for(data_source)
        instance = await boot(tenant, user_data)
        nic = instance.nics[0]
        guest = reach("debian", last_segment(nic.network), nic.fixed_ip, image.login_user, folder / "id")
        assert isinstance(guest, SshGuest)
        await wait_login(guest, BOOT_TIMEOUT_S)
        await wait_settled("debian", guest)
        query = json.loads((await patiently(guest, "sudo cloud-init query --all")).text)
        seen = await wait_seen(tenant.user, instance.name)
        yield Booted(data_source, tenant.user, seen, tenant.key_pair, user_data, guest, query)
        await tenant.user.operations.wait(await tenant.user.instances.delete(instance.name), timeout_s=120)


def user_data_for(data_source: str) -> bytes:
    """As many octets as there can be of them, or octets that are no text."""
    config = b"#cloud-config\nwrite_files:\n  - {path: /etc/from-user-data, content: all of it}\n"
    if data_source == "Ec2":
        return gzip.compress(config + b"# " + secrets.token_hex(8192).encode() + b"\n")
    padding = MAX_USER_DATA_BYTES - len(config) - 3
    return config + b"# " + secrets.token_hex(padding)[:padding].encode() + b"\n"


async def boot(tenant: Tenant, user_data: bytes) -> Instance:
    """On two networks."""
    user = tenant.user
    second = await user.networks.create("second")
    await user.subnets.create("second", network=second, cidr=SECOND_CIDR, dns_nameservers=["9.9.9.9"])
    operation = await user.instances.create(
        "Met by cloud-init",
        flavor=tenant.flavor,
        image=tenant.image,
        key_pair=tenant.key_pair,
        networks=[tenant.network, second],
        security_groups=[tenant.security_group],
        user_data=user_data,
        metadata=PROPERTIES,
        tags=TAGS,
    )
    await user.operations.wait(operation, timeout_s=BOOT_TIMEOUT_S)
    return await user.instances.get(operation.target)
