"""A gRPC server: mutual TLS, health, reflection, errors, traces, metrics, an orderly stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from cryptography import x509
from grpc import RpcMethodHandler
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from core.pki.identity import certificate_trust_domain
from core.pki.tls import TlsFiles, server_credentials
from core.rpc.interceptors import layers
from core.rpc.interceptors.authorization import Authorizer, authorization, identification
from core.rpc.interceptors.call import Layer, within
from core.rpc.interceptors.weather import database_away

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 64 * 1024
STOP_GRACE_S = 5.0
_log = structlog.get_logger(__name__)

# (add_XServicer_to_server, the servicer)
Service = tuple[Callable[[Any, Any], None], Any]

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # Two processes on one port would share its calls by chance.
    ("grpc.so_reuseport", 0),
    # Clients of ours ping every 10 s, also while no call is in flight.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A started server. `address` is host:port with the port that is bound."""

    server: grpc.aio.Server
    health: HealthServicer
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Take no new calls, let those in flight end within *grace_s*, then cancel them."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace_s)


async def serve(
    services: Iterable[Service],
    *,
    listen: str,
    tls: TlsFiles | None,
    require_client: bool = True,
    authorize: Authorizer | None = None,
    extra_layers: Sequence[Layer] = (),
) -> RunningServer:
    """Start a server on *listen* (host:port, port 0: any). Raises OSError if it can't be bound.

    *require_client*: only peers with a certificate of our authority may connect. *authorize* is asked before each
    call. *extra_layers* run inside of all others, so that they know the peer and may raise any CirraError.
    *tls* None serves tests of one part alone: without identities, everybody is believed.
    """
    stack: list[Layer] = [layers.correlation, layers.tracing, layers.measuring, layers.errors, database_away]
    stack.append(identification(_trust_domain(tls), require_peer=require_client))
    if authorize is not None:
        stack.append(authorization(authorize))
    methods = _Methods()
    names = [methods.add(service, (*stack, *extra_layers)) for service in services]
    health = HealthServicer()
    # These two are open to whoever may connect, and their calls would be noise in traces: no layers.
    infrastructure = [methods.add((health_pb2_grpc.add_HealthServicer_to_server, health))]
    reflected = reflection.aio.ReflectionServicer((*names, *infrastructure, reflection.SERVICE_NAME))
    methods.add((reflection_pb2_grpc.add_ServerReflectionServicer_to_server, reflected))
    for name in names:
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((methods,))
    port = _bind(server, listen, tls, require_client)
    await server.start()
    host = listen.rpartition(":")[0]
    _log.info("serving", address=f"{host}:{port}", services=names, tls=tls is not None)
    return RunningServer(server, health, host, port)


class _Methods(grpc.GenericRpcHandler):
    """All methods that are served, by their full names ("/package.Service/Method").

    It stands in for the server where generated code (`add_…_to_server`) registers what it has. The server itself gets
    no registered methods: of each it keeps a call waiting, and goes through all of them at every RPC.
    https://github.com/grpc/grpc/blob/v1.85.1/src/python/grpcio/grpc/_cython/_cygrpc/aio/server.pyx.pxi
    """

    def __init__(self) -> None:
        self._handlers: dict[str, RpcMethodHandler[Any, Any]] = {}
        self._registered: list[tuple[str, Mapping[str, RpcMethodHandler[Any, Any]]]] = []

    def add(self, service: Service, layers: Sequence[Layer] = ()) -> str:
        """Serve it, each of its methods inside of *layers*. Returns its full name."""
        register, servicer = service
        register(servicer, self)
        name, handlers = self._registered.pop()
        for method, handler in handlers.items():
            full_name = f"/{name}/{method}"
            self._handlers[full_name] = within(layers, handler, full_name) if layers else handler
        return name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: generated code says the same again by name."""

    def add_registered_method_handlers(
        self, service_name: str, handlers: Mapping[str, RpcMethodHandler[Any, Any]]
    ) -> None:
        self._registered.append((service_name, handlers))


def _bind(server: grpc.aio.Server, listen: str, tls: TlsFiles | None, require_client: bool) -> int:
    try:
        if tls is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, server_credentials(tls, require_client))
    except RuntimeError as error:
        raise OSError(f"can't listen on {listen}: {error}") from error
    if port == 0:
        raise OSError(f"can't listen on {listen}")
    return port


def _trust_domain(tls: TlsFiles | None) -> str | None:
    if tls is None:
        return None
    return certificate_trust_domain(x509.load_pem_x509_certificate(tls.authority.read_bytes()))
