"""Who asks, and session tokens."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

import pytest

from metadata.proof import SessionTokens, host_key, signed_by_host

MASTER = bytes(range(32))
GUEST, OTHER = UUID(int=1), UUID(int=2)
REQUEST = ("host-1", "net", "10.0.0.5", "GET", "/latest/meta-data/")


def sign(key: bytes, *request: str) -> str:
    return hmac.new(key, "\n".join(("v1", *request)).encode(), hashlib.sha256).hexdigest()


def test_a_hosts_own_signature_is_believed() -> None:
    assert signed_by_host(MASTER, sign(host_key(MASTER, "host-1"), *REQUEST), *REQUEST)


@pytest.mark.parametrize("place", range(5))
def test_a_signature_covers_each_part(place: int) -> None:
    signature = sign(host_key(MASTER, "host-1"), *REQUEST)
    changed = [*REQUEST]
    changed[place] += "x"
    assert not signed_by_host(MASTER, signature, *changed)


def test_another_host_cannot_sign_in_its_name() -> None:
    assert not signed_by_host(MASTER, sign(host_key(MASTER, "host-2"), *REQUEST), *REQUEST)


@pytest.mark.parametrize("signature", ["", "00" * 32, "\u00e9"])
def test_garbage_is_no_signature(signature: str) -> None:
    assert not signed_by_host(MASTER, signature, *REQUEST)


def test_session_tokens_are_bound_to_a_guest_and_run_out() -> None:
    now = [1000.0]
    tokens = SessionTokens(MASTER, lambda: now[0])
    token = tokens.issue(GUEST, 60)
    assert tokens.valid(GUEST, token)
    assert not tokens.valid(OTHER, token)
    # Any replica: one that has the same key knows the token, one with another doesn't.
    assert SessionTokens(MASTER, lambda: now[0]).valid(GUEST, token)
    assert not SessionTokens(bytes(32), lambda: now[0]).valid(GUEST, token)
    now[0] += 61
    assert not tokens.valid(GUEST, token)


@pytest.mark.parametrize("token", ["", "garbage", "AAAA", "é"])
def test_garbage_is_no_token(token: str) -> None:
    assert not SessionTokens(MASTER, lambda: 0.0).valid(GUEST, token)


@pytest.mark.parametrize("ttl", [0, -1, 21601])
def test_the_life_of_a_token_is_bounded(ttl: int) -> None:
    with pytest.raises(ValueError, match="21600"):
        SessionTokens(MASTER, lambda: 0.0).issue(GUEST, ttl)
