"""An ssh key pair for one demo."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.pki.files import ensure_private_folder, write_private


def new_key(path: Path, comment: str) -> str:
    """Writes an Ed25519 private key as OpenSSH does; returns the public one, a line of authorized_keys."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    ensure_private_folder(path.parent)
    write_private(path, private)
    return f"{public.decode()} {comment}"
