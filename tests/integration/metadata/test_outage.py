"""What guests are told while other parts of the cloud are away."""

from __future__ import annotations

import pytest

from tests.harness.metadata_proxy import Proxy
from tests.integration.metadata.conftest import GuestOf, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "/openstack/latest/password"


async def test_a_password_that_nobody_records_is_refused_for_now(world: World, guest: GuestOf, proxy: Proxy) -> None:
    for lifetime in world.plane.conductors:
        await lifetime.close()
    answer = await proxy.ask(PASSWORD, guest, "POST", body=b"secret")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await proxy.ask("/latest/meta-data/instance-id", guest)).status_code == 200
    await world.plane.start_conductor()  # the outage ends, and its read models go on where they stood
