"""Metadata answers, as this guest would ask: to its host's proxy from its tap, and on to the service in its name."""

from __future__ import annotations

import asyncio

from core.pki.tls import TlsFiles, client_ssl_context
from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.services import NO_VOICE, RECONCILE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames, frames6
from net_agent.diagnosis.probe.frames import Datagram, Frame
from net_agent.drivers.linux.proxy import MetadataProxyProcess
from net_agent.metadata_proxy import signing
from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.upstream import Upstream, UpstreamAway
from net_agent.model import METADATA_ADDRESS, METADATA_ADDRESS_IPV6, IpAddress

_PORT = 80
_SERVICE_PATIENCE_S = 3.0
# A session token of IMDSv2: the first that cloud-init asks for, and no reading of metadata, so that the cloud doesn't
# take our question for the guest's.
_METHOD, _PATH, _TTL_HEADER = "PUT", "/latest/api/token", b"X-aws-ec2-metadata-token-ttl-seconds"


async def metadata(path: GuestPath) -> Finding:
    own = path.own
    if own is None or own[1].dhcp_ip is None:
        return not_applicable("no subnet of the port has metadata")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    if not await path.once("metadata", lambda: _proxy_accepts(path)):
        return await _why_not(path, METADATA_ADDRESS)
    return await _service_answers(path)


async def metadata6(path: GuestPath) -> Finding:
    """The same by IPv6, on the link. The service is asked only if it was not, by IPv4."""
    if not path.network.has_ipv6 or path.own6 is None:
        return not_applicable("the port has no IPv6 address")
    if path.voice is None:
        return unknown("NO_TAP", NO_VOICE)
    # Whoever is asked so knows where the answer goes, whatever the guest's system makes of IPv6.
    mac = await path.mac6_of(METADATA_ADDRESS_IPV6, on_link=True)
    if mac is None or not await path.once("metadata IPv6", lambda: _proxy_accepts6(path, mac)):
        return await _why_not(path, METADATA_ADDRESS_IPV6)
    if path.own is None or path.own[1].dhcp_ip is None:
        return await _service_answers(path)
    return ok(f"the proxy answers the guest at {METADATA_ADDRESS_IPV6}")


async def _proxy_accepts(path: GuestPath) -> bool:
    assert path.own is not None
    own, sport, sequence = path.own[0], _a_port(path), path.number()
    packet = frames.tcp_syn(own, METADATA_ADDRESS, sport, _PORT, sequence)
    return await _is_opened(path, METADATA_ADDRESS, path.packet(path.service_mac, packet), sport, sequence)


async def _proxy_accepts6(path: GuestPath, mac: str) -> bool:
    sport, sequence = _a_port(path), path.number()
    packet = frames6.tcp_syn6(path.link_local, METADATA_ADDRESS_IPV6, sport, _PORT, sequence)
    return await _is_opened(path, METADATA_ADDRESS_IPV6, path.packet6(mac, packet), sport, sequence)


async def _is_opened(path: GuestPath, address: IpAddress, frame: bytes, sport: int, sequence: int) -> bool:
    """A connection is opened as far as the guest's own kernel lets it: that knows of none, and resets it."""
    assert path.voice is not None

    def answer(heard: Frame) -> bool | None:
        said = heard.content
        if not isinstance(said, Datagram) or (said.source, said.sport) != (address, _PORT):
            return None
        if said.dport != sport or said.acknowledged != (sequence + 1) & 0xFFFF_FFFF:
            return None
        return bool(said.flags & frames.TCP_SYN)

    where = f"[{address}]" if address.version == 6 else f"{address}"
    return bool(await path.voice.ask(f"SYN to {where}:{_PORT}", frame, answer))


def _a_port(path: GuestPath) -> int:
    """Of the guest's, which nobody uses for long (RFC 6335, section 6)."""
    return 49152 + path.draw.getrandbits(13)


async def _why_not(path: GuestPath, address: IpAddress) -> Finding:
    ground = path.ground
    namespace = ground.namespaces.path(path.namespace)
    proxy = MetadataProxyProcess(ground.identity, path.network.network_id, ground.folder, namespace)
    log = ground.folder / "metadata-proxy.log"
    if await path.on_host(proxy.pid) is None:
        seen = f"no answer at {address}: the network's metadata proxy does not run"
        return broken("METADATA_PROXY_NOT_RUNNING", seen, f"{RECONCILE}; the proxy's: {log}")
    return broken(
        "METADATA_NO_ANSWER",
        f"no answer at {address}, though the network's metadata proxy runs",
        f"see what drops it: cirra network diagnose --capture; restart the proxy (kill it); see {log}",
    )


async def _service_answers(path: GuestPath) -> Finding:
    url = path.ground.identity.metadata_url
    try:
        # A socket is of the namespace of the thread that makes it: so the loop is one of that thread.
        answer = await path.on_host(lambda: asyncio.run(_ask_service(path)))
    except (UpstreamAway, OSError, ValueError) as error:
        seen = f"the proxy answers the guest; no metadata service at {url}: {error}"
        return broken("METADATA_SERVICE_AWAY", seen, "see cirra service list, and whether this host reaches it")
    if answer.status == 200:
        return ok("the proxy answers the guest, and the metadata service knows it")
    said = answer.body.decode(errors="replace")[:80].strip()
    seen = f"the metadata service answers {answer.status} in the guest's name ({said})"
    if answer.status == 404:
        return broken(
            "METADATA_GUEST_UNKNOWN", seen, "see that its read model goes on: cirra service list, make status"
        )
    return broken("METADATA_REFUSED", seen, "see the metadata service's log, and that this host is enrolled")


async def _ask_service(path: GuestPath) -> Answer:
    """As the network's proxy would pass it on. Raises UpstreamAway, OSError."""
    identity, own = path.ground.identity, str(path.own[0] if path.own is not None else path.link_local)
    signed = signing.signature(
        identity.signing_key.read_bytes(), identity.host, path.network.network_id, own, _METHOD, _PATH
    )
    headers = [
        (signing.HOST_HEADER, identity.host.encode()),
        (signing.NETWORK_HEADER, path.network.network_id.encode()),
        (signing.ADDRESS_HEADER, own.encode()),
        (signing.SIGNATURE_HEADER, signed.encode()),
        (_TTL_HEADER, b"60"),
    ]
    tls = None
    if identity.metadata_url.startswith("https:"):
        tls = client_ssl_context(TlsFiles(identity.authority, identity.certificate, identity.private_key))
    upstream = Upstream(identity.metadata_url, tls)
    try:
        async with asyncio.timeout(_SERVICE_PATIENCE_S):
            return await upstream.ask(own, Question(_METHOD.encode(), _PATH.encode(), headers, b""))
    except TimeoutError as error:
        raise UpstreamAway(f"no answer within {_SERVICE_PATIENCE_S:g} s") from error
    finally:
        upstream.close()
