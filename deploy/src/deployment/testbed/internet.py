"""The Internet of a testbed, in its namespace `outside`: DNS by dnsmasq(8), and a web server that says who asks.

`python -m deployment.testbed.internet READY_FILE`. Its pages: /: a greeting; /ip: the asker's address, as it is seen
from here; /bytes/N: N octets. What is posted is counted: the answer is the number of octets.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deployment.testbed import plan

_PORT = 80
_CHUNK = b"\0" * 65536
_BYTES = re.compile(r"/bytes/(\d+)")
GREETING = "the Internet greets you"


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if found := _BYTES.fullmatch(self.path):
            self._send_octets(int(found[1]))
        elif self.path == "/ip":
            self._send_text(self._asker())
        else:
            self._send_text(GREETING)

    def do_POST(self) -> None:
        left = length = int(self.headers.get("Content-Length", 0))
        while left > 0 and (piece := self.rfile.read(min(left, len(_CHUNK)))):
            left -= len(piece)
        self._send_text(str(length - left))

    def _asker(self) -> str:
        return str(self.client_address[0]).removeprefix("::ffff:")

    def _send_text(self, text: str) -> None:
        body = f"{text}\n".encode()
        self._send_head(len(body))
        self.wfile.write(body)

    def _send_octets(self, length: int) -> None:
        self._send_head(length)
        for begin in range(0, length, len(_CHUNK)):
            self.wfile.write(_CHUNK[: length - begin])

    def _send_head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        print(self._asker(), format % args, flush=True)


class WebServer(ThreadingHTTPServer):
    """On all addresses, of either version."""

    address_family = socket.AF_INET6
    daemon_threads = True


def dnsmasq_command() -> list[str]:
    """It answers for the names of the plan, and knows nobody else to ask."""
    web = [f"--address=/{name}/{address.ip}" for name in plan.WEB_NAMES for address in plan.WEB]
    router = [f"--address=/{plan.ROUTER_NAME}/{address.ip}" for address in plan.OUTSIDE]
    listen = [f"--listen-address={address.ip}" for address in plan.DNS]
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        *listen,
        *web,
        *router,
    ]


def main(ready_file: str) -> int:
    # Its own signals end it; whatever else ends this process ends it as well.
    dns = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *dnsmasq_command()], stdin=subprocess.DEVNULL)
    server = WebServer(("::", _PORT), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(number: int, frame: object) -> None:
        dns.terminate()

    signal.signal(signal.SIGTERM, stop)
    Path(ready_file).write_text(json.dumps({"pid": os.getpid()}))
    return abs(dns.wait())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
