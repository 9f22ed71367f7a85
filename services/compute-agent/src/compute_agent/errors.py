"""Why this agent could not do as desired: every reason that it reports, with what a person can do about it.

`retryable`: the same on this host may work later. `reschedule`: another host may do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.agent.handler import AgentFailure
from core.errors import Unavailable


def disk_out_of_reach(disk: Path, problem: AgentFailure) -> AgentFailure:
    """*problem*: what is wrong with the state folder."""
    return AgentFailure(
        f"the instance's disk {disk} can't be reached: {problem.message}",
        reason=problem.reason,
        remedy=problem.remedy,
        retryable=problem.retryable,
        reschedule=problem.reschedule,
    )


def disk_missing(path: Path) -> AgentFailure:
    return AgentFailure(
        f"the instance's disk {path} is gone",
        reason="DISK_MISSING",
        remedy="restore the file, or delete the instance; a blank disk is never made in its place",
    )


def flavor_disk_too_small(disk_gib: int, virtual_size_bytes: int) -> AgentFailure:
    needed_gib = -(-virtual_size_bytes // 2**30)
    return AgentFailure(
        f"the image's disk of {virtual_size_bytes} bytes does not fit in the flavor's {disk_gib} GiB",
        reason="FLAVOR_DISK_TOO_SMALL",
        remedy=f"use a flavor with a disk of at least {needed_gib} GiB",
    )


def image_unsafe(detail: str) -> AgentFailure:
    return AgentFailure(
        f"the image is refused: {detail}",
        reason="IMAGE_UNSAFE",
        remedy="upload a self-contained image: qemu-img convert -O qcow2 SOURCE IMAGE",
    )


def image_download_failed(detail: str) -> AgentFailure:
    return AgentFailure(
        f"the image could not be downloaded: {detail}",
        reason="IMAGE_DOWNLOAD_FAILED",
        remedy="check that this host reaches the gateway, and that the image is active",
        retryable=True,
        reschedule=True,
    )


def image_checksum_mismatch(expected: str, actual: str) -> AgentFailure:
    return AgentFailure(
        f"the downloaded image has SHA-256 {actual}, not {expected}",
        reason="IMAGE_CHECKSUM_MISMATCH",
        remedy="the blob at the gateway is damaged: upload the image again",
    )


def virt_type_unsupported(virt_type: str, supported: Sequence[str]) -> AgentFailure:
    return AgentFailure(
        f"this host runs no guests of type {virt_type!r}, only {', '.join(supported) or 'none'}",
        reason="VIRT_TYPE_UNSUPPORTED",
        remedy="check /dev/kvm on the host; its capabilities are probed at each boot",
        reschedule=True,
    )


def tap_missing(device: str, port_id: str) -> AgentFailure:
    return AgentFailure(
        f"the tap {device} of port {port_id} is not on this host",
        reason="TAP_MISSING",
        remedy="check cirra-net-agent on this host: it makes the tap",
        retryable=True,
    )


def nic_not_released(port_id: str, waited_s: float) -> AgentFailure:
    return AgentFailure(
        f"the guest has not released the NIC of port {port_id} within {waited_s:.0f} s",
        reason="NIC_NOT_RELEASED",
        remedy="let the guest's system come up, which releases it by ACPI, or stop the instance first",
    )


def domain_foreign(instance_id: str) -> AgentFailure:
    return AgentFailure(
        f"the host has a domain with UUID {instance_id} that is not Cirra's",
        reason="DOMAIN_FOREIGN",
        remedy="virsh dominfo shows it; it is never touched",
        reschedule=True,
    )


def domain_failed(operation: str, detail: str) -> AgentFailure:
    """`operation`: "define", "start", "stop", "remove"."""
    return AgentFailure(
        f"the domain could not be handled ({operation}): {detail}",
        reason=f"DOMAIN_{operation.upper()}_FAILED",
        remedy="see the logs of libvirtd and of the guest on the host",
        retryable=True,
        reschedule=True,
    )


def hypervisor_unavailable(uri: str, detail: str) -> Unavailable:
    """No answer about the guest, which may well run: so it is no failure to report, but one to try again."""
    return Unavailable(
        f"no answer from {uri}: {detail}",
        reason="HYPERVISOR_UNAVAILABLE",
        remedy="start libvirtd on the host; its guests run on meanwhile",
    )


def command_failed(argv: Sequence[str], detail: str) -> AgentFailure:
    return AgentFailure(
        f"`{' '.join(argv)}` failed: {detail}",
        reason="HOST_COMMAND_FAILED",
        remedy="run it by hand on the host; often a file system is full or read-only",
        retryable=True,
        reschedule=True,
    )


def storage_failed(error: OSError) -> AgentFailure:
    return AgentFailure(
        f"the host's storage failed: {error}",
        reason="HOST_STORAGE_FAILED",
        remedy="look for a full, read-only or failing file system on the host",
        retryable=True,
        reschedule=True,
    )
