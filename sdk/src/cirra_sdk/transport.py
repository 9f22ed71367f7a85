"""One connection to a cloud: every call carries the token and the position, and is made again when it may help."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc

from cirra_sdk.errors import CirraApiError, Conflict, Unauthenticated, Unavailable, from_rpc_error
from cirra_sdk.state import Memory

POSITION = "cirra-position"
EPOCH = "cirra-epoch"
MIN_POSITION = "cirra-min-position"
DEFAULT_TIMEOUT_S = 30.0
# A gateway that restarts is back within this time.
DEFAULT_RETRY_FOR_S = 15.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 2.0

T = TypeVar("T")
Method = Callable[..., Any]
"""A method of a gRPC stub."""


class TokenSource(Protocol):
    """Where access tokens come from."""

    async def get(self) -> str:
        """A token that should be good; "" for calls without one."""
        ...

    def reject(self, token: str) -> bool:
        """The cloud did not accept it. Returns whether `get` may now give another one."""
        ...


class NoToken:
    """For the calls that need none."""

    async def get(self) -> str:
        return ""

    def reject(self, token: str) -> bool:
        return False


class Patience:
    """How long to try again, with growing, random pauses.

    *forgiving*: for what may run for hours. Trouble that began long after the last trouble has its own time.
    """

    def __init__(self, budget_s: float, *, forgiving: bool = False) -> None:
        self._budget_s = budget_s
        self._forgiving = forgiving
        self._last_trouble = time.monotonic()
        self._renewed_at: float | None = None
        self._begin()

    def _begin(self) -> None:
        self._until = time.monotonic() + self._budget_s
        self._delay_s = _FIRST_DELAY_S

    async def pause(self) -> bool:
        """False, at once, when there is no time for another try."""
        now = time.monotonic()
        if self._forgiving and now - self._last_trouble > self._budget_s:
            self._begin()
        wait_s = self._delay_s * random.uniform(0.5, 1.0)
        if now + wait_s >= self._until:
            return False
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        await asyncio.sleep(wait_s)
        self._last_trouble = time.monotonic()
        return True

    def may_renew(self) -> bool:
        """Whether to try with another token: once; what may run for hours, again when the last was good for long."""
        now, before = time.monotonic(), self._renewed_at
        self._renewed_at = now
        return before is None or (self._forgiving and now - before > self._budget_s)


class Transport:
    """Calls through *channel*. Writes carry a `request_id`, so making one again does nothing twice.

    What is tried again, for *retry_for_s*: what the cloud says may pass, what did not reach it, and, once, what it
    refused for the token's sake. All methods raise `CirraApiError`.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        endpoint: str,
        memory: Memory,
        tokens: TokenSource,
        *,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
    ) -> None:
        self.channel = channel
        self.endpoint = endpoint
        self.memory = memory
        self.tokens = tokens
        self.retry_for_s = retry_for_s

    def with_tokens(self, tokens: TokenSource, memory: Memory | None = None) -> Transport:
        """The same connection for another user, or for none."""
        return Transport(self.channel, self.endpoint, memory or self.memory, tokens, retry_for_s=self.retry_for_s)

    async def unary(self, method: Method, request: Any, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Any:
        """One request, one answer. *timeout_s*: of each try."""

        async def once(token: str) -> Any:
            return await self._answer(method(request, metadata=self._metadata(token), timeout=timeout_s))

        return await self._tried(once)

    async def upload(self, method: Method, requests: Callable[[], AsyncIterator[Any]]) -> Any:
        """A stream of requests, made anew by *requests* for each try; one answer. Raises also what they raise."""

        async def once(token: str) -> Any:
            stream = _Watched(requests())
            call = method(stream, metadata=self._metadata(token))
            first = _FirstStatus(call)
            try:
                return await self._answer(call)
            except CirraApiError as error:
                if first.refusal is None:
                    raise
                raise self._failure(first.refusal) from error
            except asyncio.CancelledError:
                # That is how gRPC tells that the stream itself has failed.
                if stream.failure is not None:
                    raise stream.failure from None
                raise

        return await self._tried(once)

    async def stream(self, method: Method, request: Any) -> AsyncGenerator[Any, None]:
        """One request, many answers. Until the first one it is tried again; then a failure is the caller's to mend."""

        async def begin(token: str) -> tuple[Any, Any, str]:
            call = method(request, metadata=self._metadata(token))
            try:
                return call, await call.read(), token
            except grpc.aio.AioRpcError as error:
                raise self._failure(error) from error
            except asyncio.CancelledError:
                call.cancel()
                raise

        call, answer, token = await self._tried(begin, forgiving=True)
        try:
            while answer is not grpc.aio.EOF:
                yield answer
                answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._interruption(error, token) from error
        finally:
            call.cancel()

    async def resumed(self, begin: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """What a stream says, begun again by *begin* for ever whenever it ends or is cut off."""
        patience = Patience(self.retry_for_s, forgiving=True)
        while True:
            try:
                async with aclosing(begin()) as answers:
                    async for answer in answers:
                        yield answer
                        patience = Patience(self.retry_for_s, forgiving=True)
                # A server that stops ends it in good order: another one goes on.
                raise Unavailable("WATCH_ENDED", "the cloud ends every watch", "watch again", retryable=True)
            except CirraApiError as error:
                if not _passes(error) or not await patience.pause():
                    raise

    async def _tried(self, once: Callable[[str], Awaitable[T]], *, forgiving: bool = False) -> T:
        patience = Patience(self.retry_for_s, forgiving=forgiving)
        while True:
            token = await self.tokens.get()
            try:
                return await once(token)
            except Unauthenticated:
                if not patience.may_renew() or not self.tokens.reject(token):
                    raise
            except CirraApiError as error:
                if not _passes(error) or not await patience.pause():
                    raise

    def _metadata(self, token: str) -> tuple[tuple[str, str], ...]:
        authorization = (("authorization", f"Bearer {token}"),) if token else ()
        position = ((MIN_POSITION, str(self.memory.position)),) if self.memory.position else ()
        return (*authorization, *position)

    async def _answer(self, call: Any) -> Any:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error
        self._saw(await call.trailing_metadata())
        return answer

    def _failure(self, error: grpc.aio.AioRpcError) -> CirraApiError:
        self._saw(error.trailing_metadata())
        return from_rpc_error(error, self.endpoint)

    def _interruption(self, error: grpc.aio.AioRpcError, token: str) -> CirraApiError:
        """A stream ends with its token. Where another token can be had, that is an interruption like others."""
        failure = self._failure(error)
        if isinstance(failure, Unauthenticated) and self.tokens.reject(token):
            return Unavailable(failure.reason, failure.message, failure.remedy, retryable=True)
        return failure

    def _saw(self, trailing: Any) -> None:
        told = dict(trailing or ())
        position, epoch = _number(told.get(POSITION)), _number(told.get(EPOCH))
        if position is not None:
            self.memory.saw(position, epoch or 0)


def _number(text: str | bytes | None) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


class _FirstStatus:
    """What the cloud said when it refused a stream before its end.

    gRPC for asyncio replaces that by INTERNAL when a message was being sent just then, at random; see
    https://github.com/grpc/grpc/issues/36066. The other way round, a failed sending may be told before the refusal.
    """

    def __init__(self, call: Any) -> None:
        self.refusal: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    def _keep(self, call: Any) -> None:
        code = _at_once(call.code())
        if code in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL):
            return
        trailing = _at_once(call.trailing_metadata()) or grpc.aio.Metadata()
        self.refusal = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=_at_once(call.details()))


def _at_once(answer: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    answer.close()
    raise AssertionError("a call that is done knows its status")


class _Watched:
    """An iterator that keeps the exception with which it ended."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self.failure: Exception | None = None

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._source)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise


def _passes(error: CirraApiError) -> bool:
    """Whether to try again by ourselves. A host may be free later, too, but that is for the caller to wait for."""
    return error.retryable and isinstance(error, Unavailable | Conflict)
