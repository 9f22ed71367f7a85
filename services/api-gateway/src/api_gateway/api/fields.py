"""Checking the shape of a request: every violation is named at once, each with its remedy."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from api_gateway.views.reader import Reader
from api_gateway.views.view import R, Row, View
from core import fields
from core.errors import FieldViolation, InvalidArgument, NotFound

_CHECK_NAME = "check the name and the project"
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Fields(fields.Fields):
    """With what only the gateway checks: addresses, and references to what there is."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__(prefix)
        # Those of them that name what there is not.
        self._missing: list[FieldViolation] = []

    def check(self) -> None:
        """Raises InvalidArgument if anything was refused; NotFound if all that is wrong is that it is not there."""
        if not self.violations:
            return
        if len(self._missing) < len(self.violations):
            raise InvalidArgument(*self.violations)
        raise NotFound(
            "; ".join(f"{missing.field}: {missing.description}" for missing in self._missing),
            remedy=_CHECK_NAME,
            metadata={"field": ", ".join(missing.field for missing in self._missing)},
        )

    def host(self, field: str, value: str) -> None:
        """A host's name: one DNS label (RFC 1123, section 2.1)."""
        if not _HOST.fullmatch(value):
            self.refuse(field, f"{value!r} is no host name: give 1 to 63 lower-case letters, digits or hyphens")

    def request_id(self, value: str) -> None:
        """AIP-155. Without one, the gateway chooses."""
        if value and not _REQUEST_ID.fullmatch(value):
            self.refuse("request_id", "give at most 128 letters, digits or any of . _ : -, such as a UUID")

    def cidr(self, field: str, value: str) -> IPv4Network | IPv6Network | None:
        """A range of addresses without host bits (RFC 4632, section 3.1; RFC 4291, section 2.3)."""
        try:
            network = ip_network(value, strict=False)
        except ValueError as error:
            self.refuse(field, f"{value!r} is no range of addresses ({error}): give one such as 192.168.1.0/24")
            return None
        try:
            return ip_network(value)
        except ValueError:
            self.refuse(field, f"{value!r} has host bits set: give {network}")
            return None

    def address(self, field: str, value: str, network: IPv4Network | IPv6Network | None = None) -> None:
        """An IPv4 or IPv6 address, of *network* where that is known. Empty is fine."""
        if not value:
            return
        try:
            address = ip_address(value)
        except ValueError:
            self.refuse(field, f"{value!r} is no IP address: give one such as 192.168.1.10 or fd00::10")
            return
        if network is not None and address not in network:
            self.refuse(field, f"{value} is not in {network}: give an address of it")

    def mac_address(self, field: str, value: str) -> None:
        """Empty is fine."""
        if value and not _MAC.fullmatch(value):
            self.refuse(field, f"{value!r} is no MAC address: give one such as fa:16:3e:00:00:01, or none")

    async def reference(self, reader: Reader, view: View[R], field: str, name: str) -> Row[R] | None:
        """The resource that a field names; None, and a violation, when there is not just one."""
        try:
            return await reader.find(view, name)
        except NotFound as error:
            self.refuse(field, f"{error.message}: {_CHECK_NAME}")
            self._missing.append(FieldViolation(f"{self._prefix}{field}", error.message))
        except InvalidArgument as error:
            self.refuse(field, error.violations[0].description)
        return None
