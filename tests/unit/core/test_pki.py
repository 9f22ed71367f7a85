"""The certificate authority and the identities in its certificates."""

from __future__ import annotations

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from core.errors import InvalidArgument, Unauthenticated
from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity, certificate_identity, parse_identity, peer_identity

TRUST_DOMAIN = "cirra.test"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", TRUST_DOMAIN, now=lambda: NOW)


def host_certificate(authority: Authority, name: str = "alice") -> x509.Certificate:
    _, request = new_key_and_request(Identity.host(name))
    return x509.load_pem_x509_certificate(authority.sign_csr(request, Identity.host(name), ["10.0.0.1"]))


def policy(authority: Authority, at: datetime = NOW) -> PolicyBuilder:
    return PolicyBuilder().store(Store([authority.certificate])).time(at)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "node1.example", "192.0.2.7"])
def test_a_servers_chain_verifies_by_each_of_its_names(authority: Authority, tmp_path: Path, name: str) -> None:
    tls = authority.issue_server("conductor", ["node1.example", "192.0.2.7"], tmp_path / "conductor")
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    assert isinstance(subject, x509.IPAddress | x509.DNSName)
    chain = policy(authority).build_server_verifier(subject).verify(certificate, [])
    assert chain[-1] == authority.certificate


def test_a_server_is_not_valid_for_other_names(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue_server("conductor", [], tmp_path / "conductor")
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    verifier = policy(authority).build_server_verifier(x509.DNSName("placement.service.cirra.test"))
    with pytest.raises(VerificationError):
        verifier.verify(certificate, [])


def test_every_certificate_is_good_for_a_client_and_carries_the_identity(authority: Authority) -> None:
    certificate = host_certificate(authority)
    verified = policy(authority).build_client_verifier().verify(certificate, [])
    assert verified.subjects is not None
    assert x509.UniformResourceIdentifier("spiffe://cirra.test/host/alice") in verified.subjects
    assert certificate_identity(certificate, TRUST_DOMAIN) == Identity.host("alice")


def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", TRUST_DOMAIN, now=lambda: NOW)
    with pytest.raises(VerificationError):
        policy(authority).build_client_verifier().verify(host_certificate(other), [])


def test_a_host_can_not_sign_for_others(authority: Authority) -> None:
    """A leaf is no authority, so what it signs is not believed."""
    key_pem, request = new_key_and_request(Identity.host("alice"))
    leaf = x509.load_pem_x509_certificate(authority.sign_csr(request, Identity.host("alice")))
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(leaf.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cirra.test/service/conductor")]),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(VerificationError):
        policy(authority).build_client_verifier().verify(forged, [leaf])


def test_certificates_expire_after_a_year_by_default(authority: Authority) -> None:
    certificate = host_certificate(authority)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    with pytest.raises(VerificationError):
        policy(authority, NOW + timedelta(days=366)).build_client_verifier().verify(certificate, [])


def test_a_machine_with_a_slow_clock_accepts_a_fresh_certificate(authority: Authority) -> None:
    slow = NOW - timedelta(minutes=5)
    assert policy(authority, slow).build_client_verifier().verify(host_certificate(authority), [])


def test_what_a_request_asks_for_is_ignored(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cirra.test/service/conductor")])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = request.add_extension(wish, critical=False)
    request = request.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    certificate = x509.load_pem_x509_certificate(authority.sign_csr(pem, Identity.host("alice")))
    assert certificate_identity(certificate, TRUST_DOMAIN) == Identity.host("alice")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_bad_request_is_refused(authority: Authority) -> None:
    weak = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    weak_pem = builder.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    _, good_pem = new_key_and_request(Identity.host("alice"))
    good = x509.load_pem_x509_csr(good_pem).public_bytes(serialization.Encoding.DER)
    tampered = x509.load_der_x509_csr(good.replace(b"alice", b"mally"))
    for pem in (b"", b"nonsense", weak_pem, tampered.public_bytes(serialization.Encoding.PEM)):
        with pytest.raises(InvalidArgument) as refusal:
            authority.sign_csr(pem, Identity.host("alice"))
        assert refusal.value.reason == "INVALID_CSR"


@pytest.mark.parametrize("san", ["conductor.service.cirra.test", "*.example", "a b", "", "spiffe://x/host/y"])
def test_a_name_that_stands_for_another_identity_is_refused(authority: Authority, san: str) -> None:
    _, request = new_key_and_request(Identity.host("alice"))
    with pytest.raises(InvalidArgument):
        authority.sign_csr(request, Identity.host("alice"), [san])


def test_the_authority_is_kept_private_and_read_back(authority: Authority) -> None:
    assert stat.S_IMODE((authority.folder / "ca.key").stat().st_mode) == 0o600
    loaded = Authority.load(authority.folder)
    assert loaded.certificate == authority.certificate
    assert loaded.trust_domain == TRUST_DOMAIN
    with pytest.raises(FileExistsError):
        Authority.create(authority.folder, TRUST_DOMAIN)


def test_an_authority_with_the_key_of_another_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", TRUST_DOMAIN)
    (authority.folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())
    with pytest.raises(ValueError, match="not that of its certificate"):
        Authority.load(authority.folder)


def test_a_services_key_is_private(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue_server("conductor", [], tmp_path / "conductor")
    assert stat.S_IMODE(tls.key.stat().st_mode) == 0o600
    assert tls.authority.read_bytes() == authority.certificate_pem


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://other.test/host/alice",
        "spiffe://cirra.test.evil/host/alice",
        "spiffe://cirra.test/user/alice",
        "spiffe://cirra.test/host/",
        "spiffe://cirra.test/host",
        "spiffe://cirra.test/host/alice/x",
        "spiffe://cirra.test/host/Alice",
        "spiffe://cirra.test/host/alice\n",
        "https://cirra.test/host/alice",
        "",
    ],
)
def test_a_uri_that_is_no_identity_of_ours_is_refused(uri: str) -> None:
    with pytest.raises(Unauthenticated):
        parse_identity(uri, TRUST_DOMAIN)


def test_identity_and_uri_are_inverse() -> None:
    for identity in (Identity.host("alice"), Identity.service("api-gateway")):
        assert parse_identity(identity.uri(TRUST_DOMAIN), TRUST_DOMAIN) == identity


def test_a_peers_identity_is_read_from_grpcs_list_of_names() -> None:
    names = [b"localhost", b"spiffe://cirra.test/service/placement", b"127.0.0.1"]
    context = {"x509_subject_alternative_name": names}
    assert peer_identity(context, TRUST_DOMAIN) == Identity.service("placement")


@pytest.mark.parametrize(
    "names",
    [
        [],
        [b"localhost"],
        [b"spiffe://cirra.test/host/alice", b"spiffe://cirra.test/service/conductor"],
        [b"spiffe://other.test/host/alice"],
    ],
)
def test_a_peer_without_exactly_one_identity_of_ours_is_refused(names: list[bytes]) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        peer_identity({"x509_subject_alternative_name": names}, TRUST_DOMAIN)
    assert refusal.value.reason == "INVALID_PEER_IDENTITY"


def test_a_peer_without_a_certificate_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        peer_identity({}, TRUST_DOMAIN)
