"""Shapes of requests: fields and pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.api.fields import Fields
from api_gateway.api.paging import DEFAULT_SIZE, MAX_SIZE, page_of
from cirra.compute.v1 import compute_pb2 as compute
from core.errors import InvalidArgument


def _refused(check: Fields) -> list[str]:
    with pytest.raises(InvalidArgument) as raised:
        check.check()
    return [violation.field for violation in raised.value.violations]


def test_all_violations_are_told_together_with_remedies() -> None:
    fields = Fields("flavor.")
    fields.name("display_name", " m1")
    fields.between("vcpus", 0, 1, 512)
    fields.texts("extra_specs", {"": "x", "a": "\n"})
    assert _refused(fields) == [
        "flavor.display_name",
        "flavor.vcpus",
        "flavor.extra_specs['']",
        "flavor.extra_specs['a']",
    ]
    assert all("give" in violation.description for violation in fields.violations)


@pytest.mark.parametrize("name", ["m1", "a b", "x@y.z", "A" * 63])
def test_names(name: str) -> None:
    fields = Fields()
    fields.name("n", name)
    fields.check()


@pytest.mark.parametrize("name", ["", " a", "a ", "-a", "a/b", "ä", "A" * 64, "a\n"])
def test_no_names(name: str) -> None:
    fields = Fields()
    fields.name("n", name)
    assert _refused(fields) == ["n"]


@pytest.mark.parametrize(
    ("cidr", "hint"),
    [("10.0.0.0/33", "no range"), ("10.0.0.1/24", "10.0.0.0/24"), ("fd00::1/64", "fd00::/64"), ("", "")],
)
def test_ranges_that_are_none(cidr: str, hint: str) -> None:
    fields = Fields()
    assert fields.cidr("cidr", cidr) is None
    assert hint in fields.violations[0].description


def test_addresses_lie_in_their_range() -> None:
    fields = Fields()
    network = fields.cidr("cidr", "10.0.0.0/24")
    fields.address("inside", "10.0.0.7", network)
    fields.address("none", "", network)
    fields.address("outside", "10.0.1.7", network)
    fields.address("strange", "10.0.0", network)
    fields.mac_address("mac", "fa:16:3e:00:00:0")
    assert _refused(fields) == ["outside", "strange", "mac"]


def test_pages_go_on_where_the_last_ended() -> None:
    request = compute.ListInstancesRequest(page_size=2, display_name="web")
    first = page_of(request)
    assert (first.size, first.after) == (2, "")
    request.page_token = first.token("0190")
    request.page_size = 7
    assert (page_of(request).size, page_of(request).after) == (7, "0190")


def test_a_page_token_is_good_for_its_own_list_only() -> None:
    request = compute.ListInstancesRequest(display_name="web")
    token = page_of(request).token("0190")
    for other in (
        compute.ListInstancesRequest(display_name="db", page_token=token),
        compute.ListFlavorsRequest(page_token=token),
        compute.ListInstancesRequest(display_name="web", page_token=token[:8]),
        compute.ListInstancesRequest(display_name="web", page_token="§"),
    ):
        with pytest.raises(InvalidArgument) as raised:
            page_of(other)
        assert raised.value.violations[0].field == "page_token"


def test_page_sizes() -> None:
    assert page_of(compute.ListFlavorsRequest()).size == DEFAULT_SIZE
    assert page_of(compute.ListFlavorsRequest(page_size=10**6)).size == MAX_SIZE
    with pytest.raises(InvalidArgument):
        page_of(compute.ListFlavorsRequest(page_size=-1))


@given(st.text(max_size=60))
def test_no_page_token_breaks_the_gateway(token: str) -> None:
    try:
        page = page_of(compute.ListFlavorsRequest(page_token=token))
    except InvalidArgument:
        return
    assert token == "" and page.after == ""
