"""The HTTP door. Hosts' proxies come here, each in the name of one guest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.ids import parse_uuid
from metadata import proof, tree
from metadata.fetches import Fetches
from metadata.guest import Guest, Guests

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("cirra")

TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"


class MetadataApp:
    """`caught_up` waits, for a moment, until the documents hold all that is in the log."""

    def __init__(
        self,
        guests: Guests,
        fetches: Fetches,
        tokens: proof.SessionTokens,
        *,
        master_key: bytes,
        caught_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._guests = guests
        self._fetches = fetches
        self._tokens = tokens
        self._master_key = master_key
        self._caught_up = caught_up

    def build(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/latest/api/token", self._token, methods=["PUT"]),
                Route("/{path:path}", self._read, methods=["GET"]),
            ]
        )

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _token(self, request: Request) -> Response:
        """IMDSv2: a session token for the guest that asks."""
        found = await self._who(request)
        if isinstance(found, Response):
            return found
        try:
            ttl_s = int(request.headers.get(TTL_HEADER, ""))
            token = self._tokens.issue(found.asked_by, ttl_s)
        except ValueError:
            return PlainTextResponse(f"{TTL_HEADER}: give 1 to {proof.MAX_TTL_S}\n", status_code=400)
        return PlainTextResponse(token, headers={TTL_HEADER: str(ttl_s)})

    async def _read(self, request: Request) -> Response:
        path = request.url.path
        with tracer.start_as_current_span("metadata read", attributes={"url.path": path}) as span:
            found = await self._who(request)
            if isinstance(found, Response):
                return found
            span.set_attribute("cirra.instance_id", str(found.instance_id))
            token = request.headers.get(TOKEN_HEADER)
            if token is not None and not self._tokens.valid(found.asked_by, token):
                return PlainTextResponse("the token is not valid: get a new one\n", status_code=401)
            content = tree.find(tree.root(found), path)
            if content is None:
                return PlainTextResponse("not found\n", status_code=404)
            host = request.headers[proof.HOST_HEADER]
            self._fetches.happened(found.instance_id, host, path, request.headers.get("user-agent", ""))
            return Response(content, media_type=_media_type(path))

    async def _who(self, request: Request) -> Guest | Response:
        """The guest in whose name a host's proxy asks, or the refusal. Nobody learns of guests of other hosts."""
        headers = request.headers
        host, network, address, signature = (
            headers.get(name, "")
            for name in (proof.HOST_HEADER, proof.NETWORK_HEADER, proof.ADDRESS_HEADER, proof.SIGNATURE_HEADER)
        )
        raw_path = bytes(request.scope["raw_path"]).decode("latin-1")
        network_id = parse_uuid(network)
        if network_id is None or not proof.signed_by_host(
            self._master_key, signature, host, network, address, request.method, raw_path
        ):
            log.warning("request without a host's proof", host=host, network=network, address=address)
            return PlainTextResponse("only hosts' proxies may ask here\n", status_code=403)
        guest = await self._find(network_id, address, host)
        if guest is None:
            log.info("no such guest on that host", host=host, network=network, address=address)
            return PlainTextResponse("no such guest\n", status_code=404)
        return guest

    async def _find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """A guest that has just booted may be faster than the documents."""
        guest = await self._guests.find(network_id, address, host)
        if guest is None:
            await self._caught_up()
            guest = await self._guests.find(network_id, address, host)
        return guest


def _media_type(path: str) -> str:
    if path.endswith(".json"):
        return "application/json"
    return "application/octet-stream" if path.endswith(("user_data", "user-data")) else "text/plain"
