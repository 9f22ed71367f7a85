"""Sensitive fields: encrypted in events, redacted everywhere else, gone when their aggregate's key is destroyed."""

from __future__ import annotations

from core.sealing.cipher import SealBroken, decode_master_key
from core.sealing.fields import REDACTED, has_sensitive, redact, sensitive_paths
from core.sealing.keyring import Keyring, Unsealed

__all__ = [
    "REDACTED",
    "Keyring",
    "SealBroken",
    "Unsealed",
    "decode_master_key",
    "has_sensitive",
    "redact",
    "sensitive_paths",
]
