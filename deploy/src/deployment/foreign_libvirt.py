"""Guests on a libvirtd that is not ours: Cirra's own are known by the element that the compute-agent leaves in them."""

from __future__ import annotations

import libvirt

from core.errors import CirraError

# The namespace of the element; the same as in compute_agent.drivers.libvirt.xml.
NAMESPACE = "https://cirra.dev/xmlns/domain/1"


def remove_guests(uri: str) -> list[str]:
    """Destroys and undefines Cirra's domains; their names. Others are not touched. Raises CirraError."""
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise CirraError(f"libvirtd at {uri} does not answer: {error}", reason="LIBVIRT_AWAY") from error
    try:
        ours = [domain for domain in connection.listAllDomains() if _is_ours(domain)]
        for domain in ours:
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            )
        return [domain.name() for domain in ours]
    except libvirt.libvirtError as error:
        raise CirraError(f"libvirtd at {uri}: {error}", reason="LIBVIRT_FAILED") from error
    finally:
        connection.close()


def _is_ours(domain: libvirt.virDomain) -> bool:
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return False
        raise
    return True
