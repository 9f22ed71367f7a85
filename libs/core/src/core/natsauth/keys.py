"""The Ed25519 key pairs ("nkeys") of a NATS deployment in operator mode.

One operator signs three accounts: ``CIRRA``, where the streams and the control plane are; ``HOSTS``, from
which the hosts reach a few subjects of CIRRA; and the system account that nats-server demands. Users are
signed by a *signing key* of their account, so that the operator's and the accounts' own keys can stay
offline. Source:
https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import nkeys

from core.errors import FieldViolation, InvalidArgument
from core.pki.files import ensure_private_folder, write_private, write_public

_CHECKSUM_BYTES = 2
_PUBLIC_KEY_BYTES = 32


class NkeyKind(Enum):
    """What a key pair stands for; the value is the prefix byte of its encoded public key."""

    OPERATOR = nkeys.PREFIX_BYTE_OPERATOR
    ACCOUNT = nkeys.PREFIX_BYTE_ACCOUNT
    USER = nkeys.PREFIX_BYTE_USER


@dataclass(frozen=True, slots=True)
class Nkey:
    """A key pair: ``public`` is safe to show, ``seed`` is the secret (both in NATS's base32 encoding)."""

    kind: NkeyKind
    public: str
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, kind: NkeyKind, random_bytes: Callable[[int], bytes] = os.urandom) -> Nkey:
        """A fresh key pair of *kind*; *random_bytes* must be a cryptographic source."""
        return cls.from_seed(kind, nkeys.encode_seed(random_bytes(32), kind.value))

    @classmethod
    def from_seed(cls, kind: NkeyKind, seed: bytes) -> Nkey:
        """The key pair of an encoded seed. Raises InvalidArgument if it is damaged or of another kind."""
        try:
            prefix, _ = nkeys.decode_seed(seed)
            public = nkeys.from_seed(seed).public_key.decode()
        except (nkeys.NkeysError, ValueError) as error:
            raise _invalid("not an nkey seed") from error
        if prefix != kind.value:
            raise _invalid(f"the seed is not that of {kind.name.lower()} keys")
        return cls(kind=kind, public=public, seed=bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of *message*."""
        signature: bytes = nkeys.from_seed(self.seed).sign(message)
        return signature


def check_public_nkey(text: str, kind: NkeyKind) -> str:
    """Return *text* if it is a sound public key of *kind* (prefix, length, CRC-16); else InvalidArgument."""
    try:
        raw = base64.b32decode(text)
    except (binascii.Error, ValueError) as error:
        raise _invalid("not a base32 public nkey") from error
    payload, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if len(payload) != 1 + _PUBLIC_KEY_BYTES or payload[0] != kind.value:
        raise _invalid(f"not a public {kind.name.lower()} nkey")
    if nkeys.crc16(payload).to_bytes(_CHECKSUM_BYTES, "little") != checksum:
        raise _invalid("the checksum of the public nkey is wrong")
    return text


class AccountName(Enum):
    """The accounts that have users; the value names their files."""

    CIRRA = "cirra"
    HOSTS = "hosts"


@dataclass(frozen=True, slots=True)
class UserSigner:
    """What signs the users of one account: the account's public key and one of its signing keys."""

    account_public: str
    signing_key: Nkey

    @classmethod
    def load(cls, folder: Path, account: AccountName) -> UserSigner:
        """Read ``<account>.pub`` and ``<account>-signing.nk``; no other key need be in *folder*.

        Whoever enrols hosts is given the files of HOSTS only, and so can't make itself a service.
        """
        account_public = (folder / f"{account.value}.pub").read_text().strip()
        return cls(
            account_public=check_public_nkey(account_public, NkeyKind.ACCOUNT),
            signing_key=_read(folder / f"{account.value}-signing.nk", NkeyKind.ACCOUNT),
        )


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """An account's identity and the key that signs its users."""

    identity: Nkey
    signing_key: Nkey

    @classmethod
    def generate(cls) -> AccountKeys:
        return cls(identity=Nkey.generate(NkeyKind.ACCOUNT), signing_key=Nkey.generate(NkeyKind.ACCOUNT))

    @property
    def signer(self) -> UserSigner:
        return UserSigner(account_public=self.identity.public, signing_key=self.signing_key)


@dataclass(frozen=True, slots=True)
class NatsKeys:
    """All key pairs of a deployment."""

    operator: Nkey
    system: Nkey
    cirra: AccountKeys
    hosts: AccountKeys

    @classmethod
    def create(cls, folder: Path) -> NatsKeys:
        """Generate all key pairs into *folder*. Raises FileExistsError rather than replace an operator."""
        if (folder / "operator.nk").exists():
            raise FileExistsError(f"{folder} already holds the keys of a NATS operator")
        ensure_private_folder(folder)
        keys = cls(
            operator=Nkey.generate(NkeyKind.OPERATOR),
            system=Nkey.generate(NkeyKind.ACCOUNT),
            cirra=AccountKeys.generate(),
            hosts=AccountKeys.generate(),
        )
        for account, pair in ((AccountName.CIRRA, keys.cirra), (AccountName.HOSTS, keys.hosts)):
            write_public(folder / f"{account.value}.pub", pair.identity.public.encode())
            write_private(folder / f"{account.value}.nk", pair.identity.seed)
            write_private(folder / f"{account.value}-signing.nk", pair.signing_key.seed)
        write_private(folder / "system.nk", keys.system.seed)
        # Last: its presence means that the folder is complete.
        write_private(folder / "operator.nk", keys.operator.seed)
        return keys

    @classmethod
    def load(cls, folder: Path) -> NatsKeys:
        """Read what ``create`` wrote. Raises FileNotFoundError, or InvalidArgument for a damaged seed."""

        def account(name: AccountName) -> AccountKeys:
            return AccountKeys(
                identity=_read(folder / f"{name.value}.nk", NkeyKind.ACCOUNT),
                signing_key=_read(folder / f"{name.value}-signing.nk", NkeyKind.ACCOUNT),
            )

        return cls(
            operator=_read(folder / "operator.nk", NkeyKind.OPERATOR),
            system=_read(folder / "system.nk", NkeyKind.ACCOUNT),
            cirra=account(AccountName.CIRRA),
            hosts=account(AccountName.HOSTS),
        )

    @classmethod
    def load_or_create(cls, folder: Path) -> NatsKeys:
        """The keys of *folder*, generated at the first call."""
        return cls.load(folder) if (folder / "operator.nk").exists() else cls.create(folder)


def _read(path: Path, kind: NkeyKind) -> Nkey:
    return Nkey.from_seed(kind, path.read_bytes().strip())


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(FieldViolation("nkey", description), reason="INVALID_NKEY")
