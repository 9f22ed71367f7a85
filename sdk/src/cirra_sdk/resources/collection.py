"""The standard methods that resources share (AIP-131, 132, 135): get, list, delete."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

from google.protobuf.message import Message

from cirra_sdk.transport import Transport

DEFAULT_PAGE_SIZE = 200

M = TypeVar("M", bound=Message)


def name_of(resource: Message | str) -> str:
    """What a request calls a resource: its `name`, or the name, uid or display name given."""
    return resource if isinstance(resource, str) else str(getattr(resource, "name", ""))


def uid_of(resource: Message | str) -> str:
    """The last part of a name, for fields that hold uids or display names."""
    return name_of(resource).rpartition("/")[2]


def request_id_or_new(request_id: str | None) -> str:
    """A write names itself, so that making it again changes nothing (AIP-155)."""
    return request_id or str(uuid4())


class Readable(Generic[M]):
    """All resources of one kind, to get and list. `messages` is the module that has `Get<kind>Request` and its kin.

    Methods raise `cirra_sdk.errors.CirraApiError`. Wherever a resource is named, a message of it will do, its resource
    name, its uid, or its display name where only one thing has that.
    """

    messages: ClassVar[ModuleType]
    stub_class: ClassVar[Any]
    kind: ClassVar[str]

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = self.stub_class(transport.channel)

    async def get(self, name: M | str) -> M:
        """One resource. Raises NotFound."""
        found: M = await self._call(f"Get{self.kind}", name=name_of(name))
        return found

    async def list(self, *, page_size: int = DEFAULT_PAGE_SIZE, **filters: Any) -> AsyncGenerator[M, None]:
        """All that the token may see, in order of creation; pages are fetched as they are needed."""
        async for resource in self._pages(f"List{self.kind}s", f"{_snake(self.kind)}s", page_size, filters):
            yield resource

    async def _call(self, rpc: str, **request_fields: Any) -> Any:
        return await self._transport.unary(getattr(self._stub, rpc), self._request(rpc, request_fields))

    def _request(self, rpc: str, request_fields: dict[str, Any]) -> Any:
        return getattr(self.messages, f"{rpc}Request")(**request_fields)

    async def _pages(self, rpc: str, field: str, page_size: int, filters: dict[str, Any]) -> AsyncGenerator[Any, None]:
        token = ""
        while True:
            page = await self._call(rpc, page_size=page_size, page_token=token, **filters)
            for resource in getattr(page, field):
                yield resource
            if not (token := page.next_page_token):
                return


class Collection(Readable[M]):
    """Those that are deleted at once."""

    async def delete(self, name: M | str, *, request_id: str | None = None) -> None:
        """Raises NotFound, and FailedPrecondition while something uses it."""
        await self._call(f"Delete{self.kind}", name=name_of(name), request_id=request_id_or_new(request_id))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
