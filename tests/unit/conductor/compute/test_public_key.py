from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conductor.compute.public_key import parse_public_key

# Made by ssh-keygen, with what `ssh-keygen -l -E md5` prints for it.
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlBhAZHGJCB1NskBNnOUXJRPzQ6A1K2nBmjmVSdKNr ada@home"
FINGERPRINT = "3e:32:fd:fd:f9:54:e9:11:01:b5:72:64:f2:dd:bb:98"


def openssh(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "ssh-ed25519"),
        (rsa.generate_private_key(65537, 2048), "ssh-rsa"),
        (ec.generate_private_key(ec.SECP256R1()), "ecdsa-sha2-nistp256"),
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa-sha2-nistp384"),
        (ec.generate_private_key(ec.SECP521R1()), "ecdsa-sha2-nistp521"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keys_of_the_usual_types_are_taken(key: ed25519.Ed25519PrivateKey, kind: str) -> None:
    line = openssh(key)
    parsed = parse_public_key(f"  {line}\t  ada@home  \n")
    assert (parsed.type, parsed.line) == (kind, f"{line} ada@home")
    assert len(parsed.fingerprint.split(":")) == 16


def test_security_keys_are_taken() -> None:
    """As U2F tokens have them: OpenSSH's PROTOCOL.u2f."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    edwards = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {
        b"sk-ssh-ed25519@openssh.com": string(edwards),
        b"sk-ecdsa-sha2-nistp256@openssh.com": string(b"nistp256") + string(octets),
    }
    for kind, key in keys.items():
        blob = base64.b64encode(string(kind) + key + string(b"ssh:")).decode()
        assert parse_public_key(f"{kind.decode()} {blob}").type == kind.decode()


def test_the_fingerprint_is_that_of_ssh_keygen() -> None:
    assert parse_public_key(LINE).fingerprint == FINGERPRINT


def test_bad_keys_say_what_to_give_instead() -> None:
    good = openssh(ed25519.Ed25519PrivateKey.generate())
    weak = openssh(rsa.generate_private_key(65537, 1024))
    for text, reason in {
        "": "content of a .pub file",
        "hello": "content of a .pub file",
        good + "\n" + good: "one line",
        "-----BEGIN OPENSSH PRIVATE KEY-----": "private key",
        good[:-10]: "damaged",
        good.replace("ssh-ed25519 ", "ssh-rsa "): "damaged",
        good.replace("ssh-ed25519 ", "no-such-type "): "not taken",
        weak: "too weak",
        good.replace("ssh-ed25519 ", "ssh-dss "): "not taken",
        f'command="rm -rf /" {good}': "content of a .pub file",
    }.items():
        with pytest.raises(ValueError, match=reason):
            parse_public_key(text)
