"""The proxy's word for who asks. The metadata service, which knows each host's key, checks it.

A guest can't be believed about itself, but its network is the one whose proxy it reached, and its address is one that
the rules on its tap let it use.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

HOST_HEADER = b"X-Cirra-Host"
NETWORK_HEADER = b"X-Cirra-Network"
ADDRESS_HEADER = b"X-Cirra-Address"
SIGNATURE_HEADER = b"X-Cirra-Signature"
# Of an answer: whose it is. Guests are not told.
INSTANCE_HEADER = b"X-Cirra-Instance"

# What only we may say; `_` is folded to `-`, as servers of the CGI tradition do.
_FORGEABLE = (b"x-cirra-", b"x-forwarded-", b"forwarded")
# RFC 9110, section 7.6.1: these concern one connection only.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    )
)

Headers = list[tuple[bytes, bytes]]


def signature(key: bytes, host: str, network_id: str, address: str, method: str, path: str) -> str:
    """Hex HMAC-SHA256 over six lines, the first of which is the scheme's version. path: without the query."""
    text = "\n".join(("v1", host, network_id, address, method, path))
    return hmac.digest(key, text.encode(), "sha256").hex()


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without those that concern one connection, also the ones that `Connection` names."""
    lowered = [(name, name.lower(), value) for name, value in headers]
    ends = _HOP_BY_HOP
    for _, lower, value in lowered:
        if lower == b"connection":
            ends = ends.union(token.strip().lower() for token in value.split(b","))
    return [(name, value) for name, lower, value in lowered if lower not in ends]


def without_forgeries(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without those that only hosts and the service may say."""
    return [(name, value) for name, value in headers if not name.lower().replace(b"_", b"-").startswith(_FORGEABLE)]
