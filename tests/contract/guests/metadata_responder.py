"""Answers one HTTP request on standard input and output: QEMU runs it for each connection to 169.254.169.254.

Its one argument is a JSON file: path → body; other paths get 404.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    bodies: dict[str, str] = json.loads(Path(sys.argv[1]).read_text())
    request_line = sys.stdin.buffer.readline().decode().split()
    while sys.stdin.buffer.readline().strip():
        """The request's headers say nothing that matters here."""
    body = bodies.get(request_line[1])
    status = "404 Not Found" if body is None else "200 OK"
    content = (body or "").encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    sys.stdout.buffer.write(head.encode() + content)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
