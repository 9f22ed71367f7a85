"""Proofs that need no memory: who asks (signed by a host's proxy), and IMDSv2 session tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable
from functools import lru_cache
from uuid import UUID

HOST_HEADER = "x-cirra-host"
NETWORK_HEADER = "x-cirra-network"
ADDRESS_HEADER = "x-cirra-address"
SIGNATURE_HEADER = "x-cirra-signature"
# Of an answer: whose it is, so that a proxy gives it to nobody else when it has to answer by itself.
INSTANCE_HEADER = "x-cirra-instance"

MAX_TTL_S = 21600


@lru_cache(maxsize=4_096)
def host_key(master: bytes, host: str) -> bytes:
    """The key that the host was given when it enrolled."""
    return hmac.digest(master, host.encode(), "sha256")


def signed_by_host(
    master: bytes, signature: str, host: str, network_id: str, address: str, method: str, path: str
) -> bool:
    """Whether a host's proxy says this. `path`: as on the request line, without the query."""
    text = "\n".join(("v1", host, network_id, address, method, path))
    expected = hmac.digest(host_key(master, host), text.encode(), "sha256").hex()
    # Octets: of texts, those that are not ASCII can't be compared.
    return hmac.compare_digest(expected.encode(), signature.encode())


class SessionTokens:
    """IMDSv2 tokens: bound to a guest, valid for as long as it asked, checked by any replica."""

    def __init__(self, master: bytes, now: Callable[[], float]) -> None:
        self._key = hmac.new(master, b"imdsv2", hashlib.sha256).digest()
        self._now = now

    def issue(self, instance_id: UUID, ttl_s: int) -> str:
        """ValueError unless 1 ≤ ttl_s ≤ 21600."""
        if not 1 <= ttl_s <= MAX_TTL_S:
            raise ValueError(f"a token lives 1 to {MAX_TTL_S} seconds")
        expiry = struct.pack(">Q", int(self._now()) + ttl_s)
        return base64.urlsafe_b64encode(expiry + self._mac(instance_id, expiry)).decode()

    def valid(self, instance_id: UUID, token: str) -> bool:
        try:
            raw = base64.urlsafe_b64decode(token.encode())
        except ValueError:
            return False
        expiry, mac = raw[:8], raw[8:]
        if len(raw) != 40 or not hmac.compare_digest(mac, self._mac(instance_id, expiry)):
            return False
        return struct.unpack(">Q", expiry)[0] > self._now()

    def _mac(self, instance_id: UUID, expiry: bytes) -> bytes:
        return hmac.new(self._key, instance_id.bytes + expiry, hashlib.sha256).digest()
