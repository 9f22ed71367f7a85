"""A gateway that answers what a test tells it to, over real gRPC in this process, and records what it was asked.

It runs in threads of its own, so that the client under test has the event loop to itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

import cirra
from cirra.identity.v1 import identity_pb2

# What the parts of a cloud say to each other. Every other service of the contract is for users.
INTERNAL_PACKAGES = {"cirra.agent.v1", "cirra.conductor.v1"}
INTERNAL_SERVICES = {"cirra.placement.v1.SchedulingService", "cirra.placement.v1.HostAdministrationService"}


def _services() -> Iterator[ServiceDescriptor]:
    """Of every proto that there is."""
    for module in pkgutil.walk_packages(cirra.__path__, "cirra."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()


SERVICES = tuple(
    service
    for service in _services()
    if service.file.package not in INTERNAL_PACKAGES and service.full_name not in INTERNAL_SERVICES
)
Answer = Message | Iterable[Any] | Callable[[Any], Any]


@dataclass(frozen=True)
class Failure(Exception):
    """`reason` empty: a bare status, as a proxy or gRPC itself would send."""

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    remedy: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    retryable: bool = False

    def details(self) -> bytes:
        status = Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="cirra")
        if self.remedy:
            info.metadata["remedy"] = self.remedy
        status.details.add().Pack(info)
        if self.fields:
            bad = error_details_pb2.BadRequest()
            for name, description in self.fields.items():
                bad.field_violations.add(field=name, description=description)
            status.details.add().Pack(bad)
        if self.retryable:
            status.details.add().Pack(error_details_pb2.RetryInfo())
        return status.SerializeToString()


GONE = Failure(grpc.StatusCode.UNAVAILABLE, "connection reset")


@dataclass(frozen=True)
class Call:
    method: str
    request: Any
    metadata: dict[str, str]


class FakeGateway:
    """`position`: what every answer says it has read. `calls`: all that came, also what was refused."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[Call] = []
        self.position = 0
        self.good_tokens: set[str] = set()
        self.token_lifetime_s = 3600
        self.password = "secret"
        self.cancelled = threading.Event()
        self._issued = 0
        self._answers: dict[str, Answer] = {}
        self._failures: dict[str, deque[Failure]] = defaultdict(deque)
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers([_Handler(self)])
        if credentials is None:
            self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        else:
            self.endpoint = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def answers(self, method: str, answer: Answer) -> None:
        """*answer*: a message, several for a stream, or a function of the request."""
        self._answers[method] = answer

    def fails(self, method: str, *failures: Failure) -> None:
        """The next calls of *method* fail so, one after the other."""
        self._failures[method].extend(failures)

    def calls_of(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def requests(self, method: str) -> list[Any]:
        return [call.request for call in self.calls_of(method)]

    def respond(self, method: MethodDescriptor, request: Any, context: Any) -> Any:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.calls.append(Call(method.name, request, metadata))
        if self.position:
            context.set_trailing_metadata((("cirra-position", str(self.position)),))
        try:
            return self._respond(method, request, metadata, context)
        except Failure as failure:
            return self._abort(context, failure)

    def _respond(self, method: MethodDescriptor, request: Any, metadata: dict[str, str], context: Any) -> Any:
        if self._failures[method.name]:
            raise self._failures[method.name].popleft()
        if method.name == "CreateToken":
            return self._token(request)
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        if token not in self.good_tokens:
            raise Failure(grpc.StatusCode.UNAUTHENTICATED, "the access token has expired", "TOKEN_EXPIRED")
        if method.name not in self._answers:
            raise Failure(grpc.StatusCode.UNIMPLEMENTED, f"the test gave no answer for {method.name}")
        told = self._answers[method.name]
        answer: Any = told(request) if callable(told) else told
        return self._streamed(answer, context) if method.server_streaming else answer

    def _streamed(self, answers: Iterable[Any], context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        try:
            yield from answers
        except Failure as failure:
            self._abort(context, failure)

    def _token(self, request: identity_pb2.CreateTokenRequest) -> identity_pb2.Token:
        if request.password != self.password:
            raise Failure(
                grpc.StatusCode.UNAUTHENTICATED, "wrong user or password", "UNAUTHENTICATED", "check user and password"
            )
        self._issued += 1
        token = identity_pb2.Token(access_token=f"token-{self._issued}")
        token.expire_time.GetCurrentTime()
        token.expire_time.seconds += self.token_lifetime_s
        self.good_tokens.add(token.access_token)
        return token

    def _abort(self, context: Any, failure: Failure) -> Any:
        trailing = [("cirra-position", str(self.position))] if self.position else []
        if failure.reason:
            trailing.append(("grpc-status-details-bin", failure.details()))  # type: ignore[arg-type]
        context.set_trailing_metadata(tuple(trailing))
        context.abort(failure.code, failure.message)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._methods = {
            f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.get(details.method)
        if method is None:
            return None
        coding = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                lambda requests, context: self._gateway.respond(method, list(requests), context), **coding
            )
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._gateway.respond(method, request, context), **coding
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._gateway.respond(method, request, context), **coding
        )
