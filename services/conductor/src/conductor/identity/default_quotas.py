"""The limits that a new project is given. There is one such aggregate in a cloud, from the first change of them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from uuid import UUID

from cirra.identity.v1 import events_pb2 as pb
from conductor import quotas
from core.aggregate import Aggregate, applies

DEFAULT_QUOTAS_ID = UUID("8f0e3a52-6f0b-5d3c-9a55-0f2f7f6c1d01")


class DefaultQuotas(Aggregate, kind="default_quotas"):
    """`limits`: of every resource, those that were never set as the product has them."""

    limits: dict[str, int] = field(default_factory=lambda: dict(quotas.DEFAULTS))

    @property
    def resource_name(self) -> str:
        return "defaultQuotas"

    def set(self, limits: Mapping[str, int]) -> None:
        """The resources not named keep theirs; what is so already is no event."""
        changed = {resource: limit for resource, limit in limits.items() if self.limits.get(resource) != limit}
        if changed:
            self.record(pb.DefaultQuotasSet(quotas=changed))

    @applies(pb.DefaultQuotasSet)
    def _set(self, event: pb.DefaultQuotasSet) -> None:
        self.limits = {**self.limits, **event.quotas}
