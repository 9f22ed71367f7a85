from __future__ import annotations

import hashlib
import hmac

from net_agent.metadata_proxy.signing import end_to_end, signature, without_forgeries


def test_the_signature_is_over_six_lines() -> None:
    made = signature(b"key", "h1", "n1", "10.0.0.11", "GET", "/latest/meta-data")
    text = b"v1\nh1\nn1\n10.0.0.11\nGET\n/latest/meta-data"
    assert made == hmac.new(b"key", text, hashlib.sha256).hexdigest()
    assert made != signature(b"key", "h1", "n1", "10.0.0.12", "GET", "/latest/meta-data")


def test_headers_that_only_we_may_say_are_dropped_however_they_are_written() -> None:
    kept = [(b"X-aws-ec2-metadata-token", b"t"), (b"User-Agent", b"curl"), (b"X-Cirrus", b"cloud")]
    forged = [
        (b"X-Cirra-Host", b"h2"),
        (b"x-cirra-signature", b"00"),
        (b"X_CIRRA_Address", b"10.0.0.99"),
        (b"X-Forwarded-For", b"10.0.0.99"),
        (b"Forwarded", b"for=10.0.0.99"),
    ]
    assert without_forgeries([*kept, *forged]) == kept


def test_headers_of_one_connection_end_with_it() -> None:
    headers = [
        (b"Accept", b"*/*"),
        (b"Connection", b"close, X-Private"),
        (b"X-Private", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
    ]
    assert end_to_end(headers) == [(b"Accept", b"*/*")]
