"""The HTTP door. Hosts' proxies come here, each in the name of one guest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import AlreadyExists, CirraError, InvalidArgument, NotFound
from core.ids import parse_uuid
from metadata import proof
from metadata.fetches import Fetches
from metadata.guest import Guest
from metadata.guests import Guests
from metadata.openstack import Cloud
from metadata.passwords import Passwords
from metadata.root import root
from metadata.tree import Secret, find

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("cirra")

TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class _Asker:
    """A guest, and the host whose proxy speaks for it."""

    guest: Guest
    host: str


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class MetadataApp:
    """`up_to_date` waits, for a moment, until the documents hold all that is in the log."""

    def __init__(
        self,
        guests: Guests,
        cloud: Cloud,
        fetches: Fetches,
        passwords: Passwords,
        tokens: proof.SessionTokens,
        *,
        master_key: bytes,
        up_to_date: Callable[[], Awaitable[None]],
    ) -> None:
        self._guests = guests
        self._cloud = cloud
        self._fetches = fetches
        self._passwords = passwords
        self._tokens = tokens
        self._master_key = master_key
        self._up_to_date = up_to_date

    def build(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/latest/api/token", self._for_guests(self._token), methods=["PUT"]),
                Route("/openstack/{version}/password", self._for_guests(self._post_password), methods=["POST"]),
                Route("/{path:path}", self._for_guests(self._read), methods=["GET"]),
            ]
        )

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def _for_guests(
        self, answer: Callable[[Request, _Asker], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route that knows who asks."""

        async def serve(request: Request) -> Response:
            with tracer.start_as_current_span("metadata", attributes={"url.path": request.url.path}) as span:
                try:
                    asker = await self._who(request)
                    span.set_attribute("cirra.instance_id", str(asker.guest.instance_id))
                    return await answer(request, asker)
                except _Refused as refused:
                    return PlainTextResponse(f"{refused.text}\n", status_code=refused.status)

        return serve

    async def _token(self, request: Request, asker: _Asker) -> Response:
        """IMDSv2: a session token for the guest that asks."""
        wanted = request.headers.get(TTL_HEADER, "")
        try:
            if not (wanted.isascii() and wanted.isdecimal()):
                raise ValueError(wanted)
            token = self._tokens.issue(asker.guest.instance_id, int(wanted))
        except ValueError:
            raise _Refused(400, f"{TTL_HEADER}: give 1 to {proof.MAX_TTL_S}") from None
        return PlainTextResponse(token, headers={TTL_HEADER: wanted})

    async def _read(self, request: Request, asker: _Asker) -> Response:
        path, guest = request.url.path, asker.guest
        self._check_token(request, asker)
        content = find(root(guest, self._cloud), path)
        if content is None:
            raise _Refused(404, "not found")
        if isinstance(content, Secret):
            content = await self._guests.open(guest.instance_id, content)
        self._fetches.happened(guest.instance_id, asker.host, path, request.headers.get("user-agent", ""))
        return Response(content, media_type=_media_type(path))

    async def _post_password(self, request: Request, asker: _Asker) -> Response:
        """Once; by custom encrypted with the public key of the guest's key pair."""
        self._check_token(request, asker)
        if find(root(asker.guest, self._cloud), request.url.path) is not Secret.PASSWORD:
            raise _Refused(404, "not found")
        try:
            await self._passwords.post(asker.guest, asker.host, await request.body())
        except AlreadyExists:
            raise _Refused(409, "a password has been posted before") from None
        except InvalidArgument as error:
            raise _Refused(400, str(error)) from None
        except NotFound:
            raise _Refused(404, "no such guest") from None
        except CirraError as error:
            log.warning("a password was not recorded", instance_id=str(asker.guest.instance_id), error=str(error))
            text = "it can't be recorded now\n"
            return PlainTextResponse(text, status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
        return Response(status_code=200)

    def _check_token(self, request: Request, asker: _Asker) -> None:
        """A token need not be sent, as with OpenStack; one that is sent must be good."""
        token = request.headers.get(TOKEN_HEADER)
        if token is not None and not self._tokens.valid(asker.guest.instance_id, token):
            raise _Refused(401, "the token is not valid: get a new one")

    async def _who(self, request: Request) -> _Asker:
        """The guest in whose name a host's proxy asks. Nobody learns of guests of other hosts. Raises _Refused."""
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
            raise _Refused(403, "only hosts' proxies may ask here")
        guest = await self._find(network_id, address, host)
        if guest is None:
            log.info("no such guest on that host", host=host, network=network, address=address)
            raise _Refused(404, "no such guest")
        return _Asker(guest, host)

    async def _find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """A guest that has just booted may be faster than the documents."""
        guest = await self._guests.find(network_id, address, host)
        if guest is None:
            await self._up_to_date()
            guest = await self._guests.find(network_id, address, host)
        return guest


def _media_type(path: str) -> str:
    if path.endswith(".json"):
        return "application/json"
    return "application/octet-stream" if path.endswith(("user_data", "user-data")) else "text/plain"
