"""What is done to one domain, as blocking functions of a `virConnect` that may all be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import libvirt

from cirra.agent.v1.desired_pb2 import (
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_PAUSED,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_SHUTOFF,
    DomainState,
    NicSpec,
)
from compute_agent.drivers.base import Guest
from compute_agent.drivers.libvirt import xml
from compute_agent.errors import domain_foreign

_STATES: Mapping[int, DomainState.ValueType] = {
    libvirt.VIR_DOMAIN_RUNNING: DOMAIN_STATE_RUNNING,
    # Waits for a resource; runs in the eyes of everyone else.
    libvirt.VIR_DOMAIN_BLOCKED: DOMAIN_STATE_RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: DOMAIN_STATE_RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DOMAIN_STATE_PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DOMAIN_STATE_PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: DOMAIN_STATE_SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: DOMAIN_STATE_CRASHED,
}
_UNDER_WAY = (
    libvirt.VIR_ERR_DEVICE_MISSING,
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_OPERATION_FAILED,
)
_CRASHES = (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
_UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def observe(connection: Any, instance_id: str) -> Guest | None:
    """The guest as it is; None when there is none of ours."""
    domain = _find(connection, instance_id)
    metadata = None if domain is None else _metadata(domain)
    if domain is None or metadata is None:
        return None
    state, reason = domain.state()
    off = state == libvirt.VIR_DOMAIN_SHUTOFF
    return Guest(
        instance_id=instance_id,
        state=DOMAIN_STATE_CRASHED if off and reason in _CRASHES else _state(state),
        shut_down_by_guest=off and reason == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
        boot=0 if off else xml.boot_of(metadata),
    )


def ours(connection: Any) -> set[str]:
    """The ids of all guests of Cirra's."""
    return {domain.UUIDString() for domain in connection.listAllDomains() if _is_ours(domain)}


def foreign(connection: Any) -> dict[str, str]:
    """The guests that are not Cirra's: id → name."""
    return {domain.UUIDString(): domain.name() for domain in connection.listAllDomains() if not _is_ours(domain)}


def define(connection: Any, instance_id: str, definition: str) -> None:
    """Makes the persistent definition say `definition`; what runs goes on as it is."""
    domain = _find(connection, instance_id)
    if domain is not None:
        if not _is_ours(domain):
            raise domain_foreign(instance_id)
        if domain.isPersistent():
            defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            if xml.same_definition(definition, defined):
                return
    connection.defineXML(definition)


def start(connection: Any, instance_id: str) -> None:
    """Starts or resumes a defined guest. One that runs is left alone."""
    domain = connection.lookupByUUIDString(instance_id)
    state, _ = domain.state()
    if _state(state) == DOMAIN_STATE_PAUSED:
        domain.resume()
    elif not domain.isActive():
        domain.create()


def request_shutdown(connection: Any, instance_id: str) -> None:
    """Presses the power button, once; a guest that is off is left alone."""
    domain = _find(connection, instance_id)
    if domain is not None and domain.isActive():
        _unless_off(domain.shutdown)


def power_off(connection: Any, instance_id: str) -> None:
    """Ends the guest's process, if it runs."""
    domain = _find(connection, instance_id)
    if domain is not None and domain.isActive():
        _unless_off(domain.destroy)


def nics(connection: Any, instance_id: str) -> frozenset[str]:
    """The ports that a guest which runs has NICs of; empty while it is off."""
    domain = _find(connection, instance_id)
    if domain is None or not domain.isActive():
        return frozenset()
    return xml.ports_of(domain.XMLDesc())


def attach_nic(connection: Any, instance_id: str, nic: NicSpec) -> None:
    """Plugs it into a guest that runs; the definition is another's matter. One that it has already is left alone."""
    domain = _find(connection, instance_id)
    if domain is not None and domain.isActive() and nic.port_id not in xml.ports_of(domain.XMLDesc()):
        _unless_off(lambda: domain.attachDeviceFlags(xml.nic_xml(nic), libvirt.VIR_DOMAIN_AFFECT_LIVE))


def request_nic(connection: Any, instance_id: str, port_id: str) -> None:
    """Asks a guest that runs to release a NIC; it does when its system has heard of it. None is success."""
    domain = _find(connection, instance_id)
    if domain is None or not domain.isActive():
        return
    try:
        domain.detachDeviceAlias(xml.nic_alias(port_id), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        # Gone meanwhile, the guest or its NIC; or asked already, and QEMU has not forgotten (a guest that boots may).
        if error.get_error_code() not in _UNDER_WAY:
            raise


def remove(connection: Any, instance_id: str) -> None:
    """Ends and undefines the guest; none, or one that isn't ours, is success."""
    domain = _find(connection, instance_id)
    if domain is None or not _is_ours(domain):
        return
    if domain.isActive():
        _unless_off(domain.destroy)
    # A domain without a definition is gone with its process.
    domain = _find(connection, instance_id)
    if domain is not None:
        domain.undefineFlags(_UNDEFINE_ALL)


def _state(state: int) -> DomainState.ValueType:
    return _STATES.get(state, DOMAIN_STATE_RUNNING)


def _find(connection: Any, instance_id: str) -> Any:
    try:
        return connection.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _is_ours(domain: Any) -> bool:
    return _metadata(domain) is not None


def _metadata(domain: Any) -> str | None:
    """Cirra's own element: of a guest that runs, as it was when that was started. None: it is not ours, or gone."""
    try:
        found: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml.NAMESPACE)
    except libvirt.libvirtError as error:
        # Undefined since it was looked up, or without our element.
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA):
            return None
        raise
    return found


def _unless_off(operation: Callable[[], object]) -> None:
    """Runs it; that the guest has ended by itself meanwhile is no error."""
    try:
        operation()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise
