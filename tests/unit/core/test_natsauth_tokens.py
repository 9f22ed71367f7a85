"""Keys and tokens: the format of nats-server's JWTs, and whose signature is on them."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import nkeys
import pytest

from core.errors import InvalidArgument
from core.natsauth.keys import AccountName, NatsKeys, Nkey, NkeyKind, UserSigner, check_public_nkey
from core.natsauth.permissions import HOST_BRIDGE, host_permissions
from core.natsauth.tokens import (
    account_tokens,
    decode_claims,
    format_credentials,
    operator_token,
    user_token,
)

ISSUED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> NatsKeys:
    return NatsKeys.create(tmp_path_factory.mktemp("keys") / "nats")


def decode_part(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signature_is_of(token: str, key: Nkey) -> bool:
    """Whether *key* signed *token*, by the nkeys library's own check."""
    signed, _, signature = token.rpartition(".")
    pair = nkeys.from_seed(key.seed)
    try:
        return bool(pair.verify(signed.encode(), decode_part(signature)))
    except nkeys.ErrInvalidSignature:
        return False


def test_a_user_token_is_a_version_2_jwt_signed_by_the_signing_key(keys: NatsKeys) -> None:
    user = Nkey.generate(NkeyKind.USER)
    permissions = host_permissions("c1", "alice")
    token = user_token(keys.hosts.signer, "host/alice", user.public, permissions, ISSUED)

    assert json.loads(decode_part(token.split(".")[0])) == {"typ": "JWT", "alg": "ed25519-nkey"}
    claims = decode_claims(token)
    assert claims["iss"] == keys.hosts.signing_key.public
    assert claims["sub"] == user.public
    assert claims["name"] == "host/alice"
    assert claims["iat"] == 1767323045
    assert "exp" not in claims
    assert claims["nats"]["issuer_account"] == keys.hosts.identity.public
    assert claims["nats"]["type"] == "user"
    assert claims["nats"]["version"] == 2
    assert claims["nats"]["pub"] == {"allow": list(permissions.publish)}
    assert claims["nats"]["sub"] == {"allow": ["_INBOX_alice.>"]}
    assert signature_is_of(token, keys.hosts.signing_key)
    assert not signature_is_of(token, keys.cirra.signing_key)


def test_the_id_of_a_token_is_the_hash_of_its_claims(keys: NatsKeys) -> None:
    claims = decode_claims(operator_token(keys, ISSUED))
    identifier = claims["jti"]
    unhashed = json.dumps(claims | {"jti": ""}, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.new("sha512_256", unhashed).digest()
    assert identifier == base64.b32encode(digest).decode().rstrip("=")


def test_a_token_can_expire(keys: NatsKeys) -> None:
    user = Nkey.generate(NkeyKind.USER)
    expires = datetime(2026, 1, 3, tzinfo=UTC)
    token = user_token(keys.hosts.signer, "x", user.public, host_permissions("c1", "x"), ISSUED, expires)
    assert decode_claims(token)["exp"] == int(expires.timestamp())


def test_accounts_are_signed_by_the_operator_and_deny_by_default(keys: NatsKeys) -> None:
    tokens = account_tokens(keys, ISSUED)
    assert set(tokens) == {keys.system.public, keys.cirra.identity.public, keys.hosts.identity.public}
    for account, token in tokens.items():
        assert signature_is_of(token, keys.operator)
        claims = decode_claims(token)
        assert claims["sub"] == account
        assert claims["nats"]["default_permissions"] == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}


def test_only_account_cirra_has_jetstream(keys: NatsKeys) -> None:
    tokens = account_tokens(keys, ISSUED)
    with_streams = [a for a, t in tokens.items() if decode_claims(t)["nats"]["limits"].get("streams")]
    assert with_streams == [keys.cirra.identity.public]


def test_hosts_import_the_bridge_and_no_more(keys: NatsKeys) -> None:
    tokens = account_tokens(keys, ISSUED)
    hosts = decode_claims(tokens[keys.hosts.identity.public])["nats"]
    cirra = decode_claims(tokens[keys.cirra.identity.public])["nats"]
    bridge = [bridged.subject for bridged in HOST_BRIDGE]
    assert [entry["subject"] for entry in hosts["imports"]] == bridge
    assert [entry["subject"] for entry in cirra["exports"]] == bridge
    assert {entry["account"] for entry in hosts["imports"]} == {keys.cirra.identity.public}
    assert "exports" not in hosts
    assert "imports" not in cirra


def test_the_operator_names_the_system_account(keys: NatsKeys) -> None:
    claims = decode_claims(operator_token(keys, ISSUED))
    assert claims["iss"] == claims["sub"] == keys.operator.public
    assert claims["nats"]["system_account"] == keys.system.public


def test_a_user_token_is_not_made_for_a_key_that_is_no_users(keys: NatsKeys) -> None:
    user = Nkey.generate(NkeyKind.USER).public
    mistyped = user[:-1] + ("B" if user.endswith("A") else "A")
    for public in (keys.cirra.identity.public, "UAAA", "", mistyped):
        with pytest.raises(InvalidArgument):
            user_token(keys.hosts.signer, "x", public, host_permissions("c1", "x"), ISSUED)


def test_public_keys_carry_their_kind_and_a_checksum() -> None:
    user = Nkey.generate(NkeyKind.USER)
    assert user.public.startswith("U")
    assert check_public_nkey(user.public, NkeyKind.USER) == user.public
    with pytest.raises(InvalidArgument):
        check_public_nkey(user.public, NkeyKind.ACCOUNT)


def test_a_seed_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Nkey.from_seed(NkeyKind.OPERATOR, Nkey.generate(NkeyKind.USER).seed)
    with pytest.raises(InvalidArgument):
        Nkey.from_seed(NkeyKind.USER, b"not a seed")


def test_a_seed_is_not_shown_by_repr() -> None:
    user = Nkey.generate(NkeyKind.USER)
    assert user.seed.decode() not in repr(user)


def test_keys_are_kept_private_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    created = NatsKeys.create(folder)
    assert NatsKeys.load(folder) == created
    assert NatsKeys.load_or_create(folder) == created
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for seed in folder.glob("*.nk"):
        assert stat.S_IMODE(seed.stat().st_mode) == 0o600, seed
    with pytest.raises(FileExistsError):
        NatsKeys.create(folder)


def test_who_enrols_hosts_needs_only_the_signing_key_of_hosts(tmp_path: Path) -> None:
    keys = NatsKeys.create(tmp_path / "all")
    enrolling = tmp_path / "conductor"
    enrolling.mkdir()
    for name in ("hosts.pub", "hosts-signing.nk"):
        (enrolling / name).write_bytes((tmp_path / "all" / name).read_bytes())
    assert UserSigner.load(enrolling, AccountName.HOSTS) == keys.hosts.signer
    with pytest.raises(FileNotFoundError):
        UserSigner.load(enrolling, AccountName.CIRRA)


def test_a_credentials_file_holds_token_and_seed_between_their_markers() -> None:
    text = format_credentials("the.token.here", b"SUTHESEED")
    lines = text.splitlines()
    assert lines[lines.index("-----BEGIN NATS USER JWT-----") + 1] == "the.token.here"
    assert lines[lines.index("-----BEGIN USER NKEY SEED-----") + 1] == "SUTHESEED"
