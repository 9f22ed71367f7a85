"""OpenSSH public keys: one line as in `authorized_keys` (sshd(8)), without options."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

MIN_RSA_BITS = 2048
MAX_LENGTH = 16 * 1024

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

_LINE = re.compile(r"(?P<type>\S+) +(?P<blob>[A-Za-z0-9+/]+={0,2})(?: +(?P<comment>.*))?")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`line`: type, base64 and comment, with single spaces. `fingerprint`: MD5, as `ssh-keygen -E md5` prints it."""

    type: str
    line: str
    fingerprint: str


def parse_public_key(text: str) -> PublicKey:
    """Raises ValueError, with what is wrong and what to give instead."""
    line = text.strip().replace("\t", " ")
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key, keep it to yourself: give the content of the .pub file")
    if not line.isprintable() or len(line) > MAX_LENGTH:
        raise ValueError("give one line, as in a .pub file")
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("it is not of the form '<type> <base64> [<comment>]': give the content of a .pub file")
    kind, encoded, comment = match["type"], match["blob"], (match["comment"] or "").strip()
    if kind not in TYPES:
        raise ValueError(f"keys of type {kind!r} are not taken: give one of {', '.join(TYPES)}")
    try:
        blob = base64.b64decode(encoded, validate=True)
        key = load_ssh_public_key(f"{kind} {encoded}".encode())
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        raise ValueError(f"it is damaged: no key of type {kind} can be read from it") from None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits is too weak: give {MIN_RSA_BITS} or more, or ed25519")
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    fingerprint = ":".join(digest[place : place + 2] for place in range(0, len(digest), 2))
    return PublicKey(kind, " ".join(part for part in (kind, encoded, comment) if part), fingerprint)
