"""How much a port may receive and send: what may be asked, and what its host is told. Pure."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import network_pb2 as public
from conductor.fields import Fields

# Below, a frame takes longer than guests wait for an answer; above, no common link carries it.
MIN_KBPS, MAX_KBPS = 64, 100_000_000
# One frame of 1,500 octets, and one of 64 KiB as kernels hand them on together: less would let nothing pass.
MIN_BURST_KBITS, MAX_BURST_KBITS = 12, 8_000_000


def check_bandwidth(fields: Fields, field: str, limits: public.BandwidthLimits) -> None:
    """0 is unlimited, and for a burst what suits the rate."""
    for way in ("ingress", "egress"):
        rate, burst = getattr(limits, f"{way}_kbps"), getattr(limits, f"{way}_burst_kbits")
        if rate:
            fields.between(f"{field}.{way}_kbps", rate, MIN_KBPS, MAX_KBPS, "kbit/s, or 0 for no limit")
        if burst and not rate:
            fields.refuse(
                f"{field}.{way}_burst_kbits", f"there is no limit to exceed: give {way}_kbps too, or leave it"
            )
        elif burst:
            name = f"{field}.{way}_burst_kbits"
            fields.between(name, burst, MIN_BURST_KBITS, MAX_BURST_KBITS, "kbit, or 0 for what suits the rate")


def bandwidth_spec(limits: public.BandwidthLimits) -> agent.Bandwidth:
    return agent.Bandwidth(
        ingress_kbps=limits.ingress_kbps,
        egress_kbps=limits.egress_kbps,
        ingress_burst_kbits=limits.ingress_burst_kbits,
        egress_burst_kbits=limits.egress_burst_kbits,
    )
