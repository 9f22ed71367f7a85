"""How a value is sealed: AES-256-GCM (NIST SP 800-38D) with a key per aggregate, itself wrapped by a master key.

A sealed value: one byte of format, eight that name the key, twelve of nonce, then ciphertext and tag. It is bound
to its aggregate and field: moved elsewhere, it does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import CirraError

KEY_BYTES = 32

_FORMAT = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = len(_FORMAT) + _KEY_ID_BYTES + _NONCE_BYTES


class SealBroken(CirraError):
    """A sealed value or key that does not open: not ours, altered, moved, or under another master key."""

    reason = "SEAL_BROKEN"


def decode_master_key(text: str) -> bytes:
    """32 bytes from base64 (RFC 4648); ValueError when it is something else. Says nothing of the key."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the master key is not base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"the master key has {len(key)} bytes, not {KEY_BYTES}")
    return key


@dataclass(frozen=True, slots=True)
class AggregateKey:
    """The key of one aggregate. It is not shown in its representation."""

    aggregate_id: UUID
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls, aggregate_id: UUID) -> AggregateKey:
        return cls(aggregate_id, os.urandom(KEY_BYTES))

    @classmethod
    def unwrap(cls, aggregate_id: UUID, wrapped: bytes, master_key: bytes) -> AggregateKey:
        """Raises SealBroken under another master key than the one that wrapped it."""
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return cls(aggregate_id, AESGCM(master_key).decrypt(nonce, sealed, aggregate_id.bytes))
        except InvalidTag as error:
            raise SealBroken(f"the master key does not open the key of aggregate {aggregate_id}") from error

    def wrap(self, master_key: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(master_key).encrypt(nonce, self.secret, self.aggregate_id.bytes)

    @property
    def key_id(self) -> bytes:
        """Tells keys apart and nothing about them: a digest of 256 random bits."""
        return hashlib.sha256(b"cirra sealing key" + self.secret).digest()[:_KEY_ID_BYTES]

    def seal(self, field_name: str, value: bytes) -> bytes:
        """`field_name`: the full name of the field."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self.secret).encrypt(nonce, value, self._bound_to(field_name))
        return _FORMAT + self.key_id + nonce + sealed

    def unseal(self, field_name: str, value: bytes) -> bytes | None:
        """The plain value; None when it was sealed with another key, which must have been destroyed."""
        if value[:1] != _FORMAT or len(value) < _HEADER_BYTES:
            raise SealBroken(f"{field_name} of aggregate {self.aggregate_id} is not a sealed value")
        if value[1 : 1 + _KEY_ID_BYTES] != self.key_id:
            return None
        nonce = value[1 + _KEY_ID_BYTES : _HEADER_BYTES]
        try:
            return AESGCM(self.secret).decrypt(nonce, value[_HEADER_BYTES:], self._bound_to(field_name))
        except InvalidTag as error:
            raise SealBroken(f"{field_name} of aggregate {self.aggregate_id} was altered or moved") from error

    def _bound_to(self, field_name: str) -> bytes:
        return self.aggregate_id.bytes + field_name.encode()
