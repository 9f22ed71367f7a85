"""Security groups: what may pass to and from the ports that are in them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from cirra.network.v1 import security_group_pb2 as pb
from cirra.network.v1.security_group_pb2_grpc import SecurityGroupServiceStub
from cirra_sdk.resources.collection import Collection, name_of, request_id_or_new


class SecurityGroups(Collection[pb.SecurityGroup]):
    """Ports and instances name them; those that name none are in their project's group "default"."""

    messages: ClassVar[ModuleType] = pb
    stub_class = SecurityGroupServiceStub
    kind = "SecurityGroup"

    async def create(
        self,
        display_name: str,
        *,
        description: str = "",
        rules: Iterable[pb.SecurityGroupRule] = (),
        default_rules: bool = True,
        request_id: str | None = None,
    ) -> pb.SecurityGroup:
        """With *rules*, and, unless *default_rules* is false, those that let everything out."""
        group = pb.SecurityGroup(display_name=display_name, description=description, rules=rules)
        made: pb.SecurityGroup = await self._call(
            "CreateSecurityGroup",
            security_group=group,
            no_default_rules=not default_rules,
            request_id=request_id_or_new(request_id),
        )
        return made

    async def update(
        self,
        name: pb.SecurityGroup | str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        etag: str = "",
        request_id: str | None = None,
    ) -> pb.SecurityGroup:
        """Sets what is given. *etag*: of the group as it was read; raises Conflict if it has changed since."""
        given = {"display_name": display_name, "description": description}
        changed: pb.SecurityGroup = await self._call(
            "UpdateSecurityGroup",
            security_group=pb.SecurityGroup(
                name=name_of(name), display_name=display_name or "", description=description or ""
            ),
            update_mask=FieldMask(paths=[path for path, value in given.items() if value is not None]),
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        return changed

    async def add_rule(
        self, name: pb.SecurityGroup | str, rule: pb.SecurityGroupRule, *, request_id: str | None = None
    ) -> pb.SecurityGroup:
        """The group as it is then; the new rule is its last. Raises InvalidArgument, AlreadyExists (DUPLICATE_RULE)."""
        changed: pb.SecurityGroup = await self._call(
            "AddSecurityGroupRule", name=name_of(name), rule=rule, request_id=request_id_or_new(request_id)
        )
        return changed

    async def remove_rule(self, rule: pb.SecurityGroupRule | str, *, request_id: str | None = None) -> pb.SecurityGroup:
        """By its uid. The group as it is then. Connections that only this rule let pass end. Raises NotFound."""
        changed: pb.SecurityGroup = await self._call(
            "RemoveSecurityGroupRule",
            rule=rule if isinstance(rule, str) else rule.uid,
            request_id=request_id_or_new(request_id),
        )
        return changed
