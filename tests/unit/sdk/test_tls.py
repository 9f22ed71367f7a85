"""Who the cloud is, is proven before a password goes to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cirra.compute.v1 import compute_pb2 as compute
from cirra_sdk import AsyncClient, ConfigurationError, errors
from core.pki.authority import Authority
from core.pki.tls import server_credentials
from tests.unit.sdk.fake_gateway import FakeGateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    files = Authority.create(tmp_path / "ca").issue_server("api-gateway", [], tmp_path / "tls")
    fake = FakeGateway(server_credentials(files, require_client=False))
    yield fake
    fake.stop()


async def test_a_cloud_of_the_right_authority_is_trusted(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.answers("GetFlavor", compute.Flavor(uid="1"))
    async with AsyncClient.connect(
        endpoint=gateway.endpoint, ca_file=str(tmp_path / "ca" / "ca.crt"), user="ann", password="secret"
    ) as client:
        assert (await client.flavors.get("1")).uid == "1"


async def test_one_of_another_authority_is_not_even_asked(gateway: FakeGateway, tmp_path: Path) -> None:
    Authority.create(tmp_path / "other")
    async with AsyncClient.connect(
        endpoint=gateway.endpoint, ca_file=str(tmp_path / "other" / "ca.crt"), user="ann", password="secret"
    ) as client:
        with pytest.raises(errors.Unreachable) as refused:
            await client.flavors.get("1")
    assert refused.value.reason == "NOT_TRUSTED" and "CA file" in refused.value.remedy
    assert not gateway.calls


async def test_a_missing_authority_file_is_told() -> None:
    with pytest.raises(ConfigurationError, match="the CA file /nowhere/ca can't be read: No such file"):
        AsyncClient.connect(endpoint="127.0.0.1:1", ca_file="/nowhere/ca", user="ann", password="secret")


def test_an_authority_that_is_no_certificate_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("a key, perhaps")
    with pytest.raises(ConfigurationError, match="has no certificate in it"):
        AsyncClient.connect(endpoint="127.0.0.1:1", ca_file=str(tmp_path / "ca"), user="ann", password="secret")
