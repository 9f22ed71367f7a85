"""Metadata answers, as this guest would ask: to its host's proxy from its tap, and on to the service in its name."""

from __future__ import annotations

import asyncio

from core.pki.tls import TlsFiles, client_ssl_context
from net_agent.diagnosis.finding import Finding, broken, not_applicable, ok, unknown
from net_agent.diagnosis.hops.services import NO_VOICE, RECONCILE
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe import frames
from net_agent.diagnosis.probe.frames import Datagram, Frame
from net_agent.drivers.linux.proxy import MetadataProxyProcess
from net_agent.metadata_proxy import signing
from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.upstream import Upstream, UpstreamAway
from net_agent.model import METADATA_ADDRESS

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
        return await _why_not(path)
    return await _service_answers(path)


async def _proxy_accepts(path: GuestPath) -> bool:
    """A connection is opened as far as the guest's own kernel lets it: that knows of none, and resets it."""
    assert path.voice is not None and path.own is not None
    own, sport, sequence = path.own[0], 49152 + path.draw.getrandbits(13), path.number()
    packet = frames.tcp_syn(own, METADATA_ADDRESS, sport, _PORT, sequence)

    def answer(frame: Frame) -> bool | None:
        said = frame.content
        if not isinstance(said, Datagram) or (said.source, said.sport) != (METADATA_ADDRESS, _PORT):
            return None
        if said.dport != sport or said.acknowledged != (sequence + 1) & 0xFFFF_FFFF:
            return None
        return bool(said.flags & frames.TCP_SYN)

    return bool(
        await path.voice.ask(f"SYN to {METADATA_ADDRESS}:{_PORT}", path.packet(path.service_mac, packet), answer)
    )


async def _why_not(path: GuestPath) -> Finding:
    ground = path.ground
    namespace = ground.namespaces.path(path.namespace)
    proxy = MetadataProxyProcess(ground.identity, path.network.network_id, ground.folder, namespace)
    log = ground.folder / "metadata-proxy.log"
    if await path.on_host(proxy.pid) is None:
        seen = "no answer at 169.254.169.254: the network's metadata proxy does not run"
        return broken("METADATA_PROXY_NOT_RUNNING", seen, f"{RECONCILE}; the proxy's: {log}")
    return broken(
        "METADATA_NO_ANSWER",
        "no answer at 169.254.169.254, though the network's metadata proxy runs",
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
    assert path.own is not None
    identity, own = path.ground.identity, str(path.own[0])
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
