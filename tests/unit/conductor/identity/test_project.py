from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.identity.v1.events_pb2 import DefaultQuotasSet
from cirra.identity.v1.identity_pb2 import Quota
from conductor import quotas
from conductor.identity.default_quotas import DEFAULT_QUOTAS_ID, DefaultQuotas
from conductor.identity.project import Project
from core.errors import InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, CounterLimit, UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, happened, refused_fields, saved

PROJECT = uuid4()


def make() -> Project:
    project = Project.create(PROJECT, "demo")
    saved(project)
    return project


def test_a_new_project_has_its_name_and_the_default_limits() -> None:
    rows = constrained(Project.create(PROJECT, "demo"))
    assert UniqueClaim("project-name", "demo", str(PROJECT)) in rows
    assert CounterLimit("quota/instances", str(PROJECT), 10) in rows
    assert CounterLimit("quota/memory_mib", str(PROJECT), 51200) in rows
    assert len(rows) == 1 + len(quotas.DEFAULTS)


def test_every_resource_that_operators_limit_has_a_default() -> None:
    assert quotas.DEFAULTS.keys() == {
        "instances", "vcpus", "memory_mib", "volumes", "gigabytes", "floating_ips", "networks", "routers", "ports",
        "security_groups", "security_group_rules", "key_pairs",
    }  # fmt: skip


def test_default_limits_change_where_they_are_told_to() -> None:
    defaults = DefaultQuotas.new(DEFAULT_QUOTAS_ID)
    assert defaults.limits == quotas.DEFAULTS
    defaults.set({"vcpus": 1, "ports": quotas.DEFAULTS["ports"]})
    assert happened(defaults) == [DefaultQuotasSet(quotas={"vcpus": 1})]
    saved(defaults)
    assert defaults.limits == {**quotas.DEFAULTS, "vcpus": 1}
    defaults.set({"vcpus": 1})
    assert happened(defaults) == []


def test_setting_limits_touches_those_named_and_minus_one_is_unlimited() -> None:
    project = make()
    project.set_quotas({"vcpus": -1, "ports": 3})
    assert constrained(project) == [
        CounterLimit("quota/ports", str(PROJECT), 3),
        CounterLimit("quota/vcpus", str(PROJECT), None),
    ]


def test_a_project_that_goes_leaves_room_for_nothing() -> None:
    project = make()
    project.delete()
    rows = constrained(project)
    assert UniqueRelease("project-name", "demo", str(PROJECT)) in rows
    for resource in quotas.DEFAULTS:
        of_resource = [row for row in rows if row.scope == f"quota/{resource}"]
        # Room for one, which one fits in only if there is none; in the end for nothing.
        assert of_resource[0] == CounterLimit(f"quota/{resource}", str(PROJECT), 1)
        assert sum(row.delta for row in of_resource if isinstance(row, CounterAdd)) == 0
        assert of_resource[-1] == CounterLimit(f"quota/{resource}", str(PROJECT), 0)
    with pytest.raises(NotFound):
        project.set_quotas({"vcpus": 1})


def test_bad_quotas_are_all_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        quotas.checked(
            [
                Quota(resource="vcpus", limit=-2),
                Quota(resource="cats", limit=1),
                Quota(resource="ports", limit=1),
                Quota(resource="ports", limit=2),
            ]
        )
    assert refused_fields(caught.value) == {"quotas[0].limit", "quotas[1].resource", "quotas[3].resource"}
    with pytest.raises(InvalidArgument):
        quotas.checked([])
