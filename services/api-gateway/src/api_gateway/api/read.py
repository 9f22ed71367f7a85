"""The standard methods that read (AIP-131, AIP-132), made of a view.

GetFlavor = getter(FLAVOR)
ListFlavors = lister(FLAVOR, pb.ListFlavorsResponse)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from api_gateway.api.call import Call, served
from api_gateway.api.paging import page_of
from api_gateway.api.present import presented
from api_gateway.views.store import Query
from api_gateway.views.view import View

Filters = Callable[[Any, Call], Awaitable[Mapping[str, str]]]


def getter(view: View[Any]) -> Any:
    """A method that answers the resource that `request.name` names."""

    @served
    async def get(self: Any, request: Any, call: Call) -> Any:
        row = await call.reader.find(view, request.name)
        [resource] = await presented(call.reader, view, [row])
        return resource

    return get


async def _all(request: Any, call: Call) -> Mapping[str, str]:
    return {}


def lister(view: View[Any], response_class: type[Any], filters: Filters = _all, *, newest_first: bool = False) -> Any:
    """A method that answers a page of what the caller may see. `filters`: column → value, made of the request."""
    [items] = [field.name for field in response_class.DESCRIPTOR.fields if field.message_type is not None]

    @served
    async def list_page(self: Any, request: Any, call: Call) -> Any:
        page = page_of(request)
        query = Query(
            filters=await filters(request, call), after=page.after, limit=page.size + 1, newest_first=newest_first
        )
        rows = await call.reader.query(view, query)
        shown = rows[: page.size]
        response = response_class()
        getattr(response, items).extend(await presented(call.reader, view, shown))
        if len(rows) > page.size:
            response.next_page_token = page.token(shown[-1].uid)
        return response

    return list_page
