"""The HTTP door. Hosts' proxies come here, each in the name of one guest."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from core import telemetry
from core.errors import AlreadyExists, CirraError, InvalidArgument, NotFound
from core.ids import parse_uuid
from metadata import proof
from metadata.fetches import Fetches
from metadata.guest import Guest
from metadata.http import Answer, Request
from metadata.openstack import Cloud
from metadata.passwords import Passwords
from metadata.root import root
from metadata.tree import Secret, Value, find

log = structlog.get_logger(__name__)

TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"
TOKEN_PATH = "/latest/api/token"
RETRY_AFTER_S = 5

_HEALTH_PATH = "/healthz"
_PASSWORD_PATH = re.compile(r"/+openstack/+[^/]+/+password/*")

Open = Callable[[UUID, Secret], Awaitable[bytes]]


class Guests(Protocol):
    """By network, address and host."""

    def remembered(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """Known without looking."""

    async def find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """The guest there, if there is one."""


@dataclass(frozen=True, slots=True)
class _Asker:
    """A guest, and the host whose proxy speaks for it."""

    guest: Guest
    host: str


class _Refused(Exception):
    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.answer = Answer(status, f"{text}\n".encode(), headers=headers or {})


class MetadataApp:
    """`open_secret`: of an instance. `up_to_date` waits, for a moment, until all that is in the log is known here."""

    def __init__(
        self,
        guests: Guests,
        open_secret: Open,
        cloud: Cloud,
        fetches: Fetches,
        passwords: Passwords,
        tokens: proof.SessionTokens,
        *,
        master_key: bytes,
        up_to_date: Callable[[], Awaitable[None]],
    ) -> None:
        self._guests = guests
        self._open_secret = open_secret
        self._cloud = cloud
        self._fetches = fetches
        self._passwords = passwords
        self._tokens = tokens
        self._master_key = master_key
        self._up_to_date = up_to_date

    def at_once(self, request: Request) -> Answer | None:
        """The answer, where it takes no waiting: what a guest reads that is remembered, and is no secret."""
        if request.method not in ("GET", "HEAD") or request.path == _HEALTH_PATH:
            return None
        try:
            network_id, address, host = self._proven(request)
            guest = self._guests.remembered(network_id, address, host)
            if guest is None:
                return None
            asker = _Asker(guest, host)
            content = self._content(request, asker)
            return None if isinstance(content, Secret) else self._answer(request, asker, content)
        except _Refused as refused:
            return refused.answer

    async def __call__(self, request: Request) -> Answer:
        if request.path == _HEALTH_PATH:
            return Answer(200, b"ok\n")
        try:
            return await self._route(request)(request, await self._who(request))
        except _Refused as refused:
            return refused.answer

    def _route(self, request: Request) -> Callable[[Request, _Asker], Awaitable[Answer]]:
        if request.method in ("GET", "HEAD"):
            return self._read
        if request.method == "PUT" and request.path == TOKEN_PATH:
            return self._token
        if request.method == "POST" and _PASSWORD_PATH.fullmatch(request.path):
            return self._post_password
        return self._not_allowed

    async def _not_allowed(self, request: Request, asker: _Asker) -> Answer:
        raise _Refused(405, "this can be read, and nothing else")

    async def _token(self, request: Request, asker: _Asker) -> Answer:
        """IMDSv2: a session token for the guest that asks."""
        wanted = request.headers.get(TTL_HEADER, "")
        try:
            if not (wanted.isascii() and wanted.isdecimal()):
                raise ValueError(wanted)
            token = self._tokens.issue(asker.guest.instance_id, int(wanted))
        except ValueError:
            raise _Refused(400, f"{TTL_HEADER}: give 1 to {proof.MAX_TTL_S}") from None
        return Answer(200, token.encode(), headers={TTL_HEADER: wanted})

    async def _read(self, request: Request, asker: _Asker) -> Answer:
        content = self._content(request, asker)
        if isinstance(content, Secret):
            content = await self._open_secret(asker.guest.instance_id, content)
        return self._answer(request, asker, content)

    def _content(self, request: Request, asker: _Asker) -> Value:
        """What is at the path that the guest asks for. Raises _Refused."""
        self._check_token(request, asker)
        content = find(root(asker.guest, self._cloud), request.path)
        if content is None:
            raise _Refused(404, "not found", _whose(asker))
        return content

    def _answer(self, request: Request, asker: _Asker, content: str | bytes) -> Answer:
        path = request.path
        self._fetches.happened(asker.guest.instance_id, asker.host, path, request.headers.get("user-agent", ""))
        body = content.encode() if isinstance(content, str) else content
        return Answer(200, body, _content_type(path), _whose(asker))

    async def _post_password(self, request: Request, asker: _Asker) -> Answer:
        """Once; by custom encrypted with the public key of the guest's key pair."""
        self._check_token(request, asker)
        if find(root(asker.guest, self._cloud), request.path) is not Secret.PASSWORD:
            raise _Refused(404, "not found")
        try:
            with telemetry.tracer().start_as_current_span("password posted"):
                await self._passwords.post(asker.guest, asker.host, request.body)
        except AlreadyExists:
            raise _Refused(409, "a password has been posted before") from None
        except InvalidArgument as error:
            raise _Refused(400, str(error)) from None
        except NotFound:
            raise _Refused(404, "no such guest") from None
        except CirraError as error:
            log.warning("a password was not recorded", instance_id=str(asker.guest.instance_id), error=str(error))
            return Answer(503, b"it can't be recorded now\n", headers={"retry-after": str(RETRY_AFTER_S)})
        return Answer(200)

    def _check_token(self, request: Request, asker: _Asker) -> None:
        """A token need not be sent, as with OpenStack; one that is sent must be good."""
        token = request.headers.get(TOKEN_HEADER)
        if token is not None and not self._tokens.valid(asker.guest.instance_id, token):
            raise _Refused(401, "the token is not valid: get a new one")

    async def _who(self, request: Request) -> _Asker:
        """The guest in whose name a host's proxy asks. Nobody learns of guests of other hosts. Raises _Refused."""
        network_id, address, host = self._proven(request)
        guest = await self._find(network_id, address, host)
        if guest is None:
            log.info("no such guest on that host", host=host, network=str(network_id), address=address)
            raise _Refused(404, "no such guest")
        return _Asker(guest, host)

    def _proven(self, request: Request) -> tuple[UUID, str, str]:
        """Network, address and host, as that host's proxy has signed them. Raises _Refused."""
        host, network, address, signature = (
            request.headers.get(name, "")
            for name in (proof.HOST_HEADER, proof.NETWORK_HEADER, proof.ADDRESS_HEADER, proof.SIGNATURE_HEADER)
        )
        network_id = parse_uuid(network)
        if network_id is None or not proof.signed_by_host(
            self._master_key, signature, host, network, address, request.method, request.raw_path
        ):
            log.warning("request without a host's proof", host=host, network=network, address=address)
            raise _Refused(403, "only hosts' proxies may ask here")
        return network_id, address, host

    async def _find(self, network_id: UUID, address: str, host: str) -> Guest | None:
        """A guest that has just booted may be faster than the documents."""
        guest = await self._guests.find(network_id, address, host)
        if guest is None:
            await self._up_to_date()
            guest = await self._guests.find(network_id, address, host)
        return guest


def _whose(asker: _Asker) -> Mapping[str, str]:
    return {proof.INSTANCE_HEADER: str(asker.guest.instance_id)}


def _content_type(path: str) -> str:
    if path.endswith(".json"):
        return "application/json"
    return "application/octet-stream" if path.endswith(("user_data", "user-data")) else "text/plain; charset=utf-8"
