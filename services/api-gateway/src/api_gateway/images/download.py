"""Handing blobs out to hosts: HTTP with byte ranges (RFC 9110, section 14), to the bearer of a ticket.

A ticket is a JSON Web Token that the conductor makes for one host and one blob, after it has checked that a guest of
that host is made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import jwt
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from api_gateway.images.blobs import Blobs

AUDIENCE = "image-download"
_log = structlog.get_logger(__name__)


def download_app(blobs: Blobs, ticket_key: bytes, now: Callable[[], datetime]) -> Starlette:
    """`GET /images/{sha256}` with `Authorization: Bearer <ticket>`. `now`: the time that the conductor goes by."""

    async def image(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        ticket = request.headers.get("authorization", "")
        host = ticket_holder(ticket, sha256, ticket_key, now())
        if host is None:
            return PlainTextResponse(
                "a valid ticket for this image is needed\n",
                status_code=401,
                headers={"www-authenticate": 'Bearer realm="images"'},
            )
        path = blobs.path(sha256)
        if path is None:
            _log.error("images.blob_missing", sha256=sha256, host=host)
            return PlainTextResponse("there is no such image\n", status_code=404)
        _log.info("images.download", sha256=sha256, host=host, range=request.headers.get("range", ""))
        return _file(path, sha256)

    return Starlette(routes=[Route("/images/{sha256}", image, methods=["GET", "HEAD"])])


def _file(path: Path, sha256: str) -> Response:
    return FileResponse(
        path, media_type="application/octet-stream", headers={"etag": f'"{sha256}"', "cache-control": "private"}
    )


def ticket_holder(authorization: str, sha256: str, key: bytes, now: datetime) -> str | None:
    """The host that a ticket for this blob was made for; None when there is none, or it is not valid (any more)."""
    scheme, _, ticket = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims = jwt.decode(
            ticket.strip(),
            key,
            algorithms=["HS256"],
            audience=AUDIENCE,
            # Time is judged below: PyJWT would ask this machine's clock.
            options={"require": ["exp", "aud", "host", "sha256"], "verify_exp": False},
        )
        if int(claims["exp"]) <= now.timestamp():
            raise jwt.ExpiredSignatureError("the ticket has expired")
    except (jwt.InvalidTokenError, ValueError, TypeError) as error:
        _log.warning("images.ticket_refused", sha256=sha256, error=str(error))
        return None
    if claims["sha256"] != sha256:
        _log.warning("images.ticket_for_another", sha256=sha256, host=claims["host"])
        return None
    host: str = claims["host"]
    return host
