"""No field that sounds like a secret is unmarked, but those that are known, each with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest
from google.protobuf.descriptor import Descriptor

from core.sealing import has_sensitive
from tests.unit.sensitive.walk import contract_messages, is_marked

SUSPICIOUS = re.compile(
    r"passw|passphrase|secret|token|private|user_data|chap|hash|salt|credential|seed|jwt|ticket|cookie|otp|_keys?$|^keys?$"
)
# Where a page of a list begins: an offset, signed by nothing and good for nothing else.
HARMLESS_NAMES = frozenset({"page_token", "next_page_token"})
HARMLESS: Mapping[str, str] = {
    "cirra.compute.v1.KeyPair.public_key": "public, as its name says",
    "cirra.compute.v1.KeyPairCreated.public_key": "public, as its name says",
    "cirra.compute.v1.InstanceCreated.public_key": "public, as its name says",
    "cirra.conductor.v1.RevokeTokenCommand.token_id": "names a token, and opens nothing",
    "cirra.placement.v1.EnrollRequest.nats_public_key": "public, as its name says",
}
# Secrets that go from peer to peer over TLS, once, and are never kept: in no event and in no message on the bus.
# Logs and traces show a message by its type alone.
IN_TRANSIT: Mapping[str, str] = {
    "cirra.agent.v1.GetImageDownloadResponse.ticket": "conductor to a host: good for one image, for minutes",
    "cirra.conductor.v1.VerifyPasswordRequest.password": "gateway to conductor, at a login",
    "cirra.identity.v1.Token.access_token": "the answer to a login",
    "cirra.identity.v1.CreateTokenRequest.password": "a login",
    "cirra.identity.v1.RevokeTokenRequest.access_token": "a logout",
    "cirra.placement.v1.EnrolmentToken.token": "shown once to the administrator; its hash is kept",
    "cirra.placement.v1.EnrollRequest.token": "a host joins",
    "cirra.placement.v1.EnrollResponse.nats_jwt": "to the host that joins; worthless without its private key",
    "cirra.placement.v1.EnrollResponse.metadata_proxy_key": "to the host that joins",
}


def _suspicious(messages: Iterable[Descriptor]) -> set[str]:
    return {
        field.full_name
        for message in messages
        for field in message.fields
        if SUSPICIOUS.search(field.name) and field.name not in HARMLESS_NAMES and not is_marked(field)
    }


def _reachable(roots: Iterable[Descriptor]) -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    to_visit = list(roots)
    while to_visit:
        message = to_visit.pop()
        if message.full_name not in found:
            found[message.full_name] = message
            to_visit += [field.message_type for field in message.fields if field.message_type is not None]
    return found


def _stored_or_published() -> list[Descriptor]:
    """Events, what sagas keep in them, and what goes to and from hosts on the bus."""
    found = [message for message in contract_messages() if message.file.name in _KEPT_FILES or _on_the_bus(message)]
    assert len({message.file.name for message in found}) == len(_KEPT_FILES) + 1
    return found


_KEPT_FILES = frozenset(
    f"cirra/{name}.proto"
    for name in (
        *(f"{domain}/v1/events" for domain in ("compute", "identity", "image", "network", "operations", "placement")),
        "conductor/v1/sagas",
    )
)


def _on_the_bus(message: Descriptor) -> bool:
    return message.full_name in ("cirra.agent.v1.DesiredObject", "cirra.agent.v1.Report")


def test_what_sounds_like_a_secret_is_marked_or_known() -> None:
    found = _suspicious(contract_messages())
    known = HARMLESS.keys() | IN_TRANSIT.keys()
    assert found - known == set(), "mark them [(cirra.options.v1.sensitive) = true], or say here why not"
    assert known - found == set(), "these are marked, renamed or gone: strike them from the list"


def test_what_is_in_transit_is_in_nothing_that_is_kept() -> None:
    kept = _reachable(_stored_or_published())
    assert "cirra.compute.v1.InstanceCreated" in kept and "cirra.agent.v1.DomainSpec" in kept
    assert [name for name in IN_TRANSIT if name.rpartition(".")[0] in kept] == []


def test_nothing_sensitive_is_packed_where_sealing_does_not_look() -> None:
    """Sealing does not look into an Any: what sagas pack must hold no secret, nor what the bus carries unsealed."""
    packed = [message for message in contract_messages() if message.file.name == "cirra/conductor/v1/sagas.proto"]
    bus = [message for message in _stored_or_published() if message.full_name.startswith("cirra.agent.")]
    assert len(packed) > 2
    assert [message.full_name for message in [*packed, *bus] if has_sensitive(message)] == []


@pytest.mark.parametrize(
    "name", ["admin_password", "token", "chap_secret", "private_key_pem", "password_hash", "user_data", "key"]
)
def test_what_sounds_like_a_secret(name: str) -> None:
    assert SUSPICIOUS.search(name)
