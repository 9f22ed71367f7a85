"""What this host offers to networks."""

from __future__ import annotations

from pathlib import Path

from cirra.agent.v1.desired_pb2 import InventoryObserved
from net_agent.drivers.base import DriverInfo

# With 1, bridged frames also pass the host's own FORWARD chain, whose REJECT then eats DHCP offers silently.
_BRIDGE_NF_CALL = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def inventory(info: DriverInfo, bridge_nf_call: Path = _BRIDGE_NF_CALL) -> InventoryObserved:
    traits = {"network_driver": info.name}
    if not info.simulated:
        traits["bridge_nf_call_iptables"] = bridge_nf_call.read_text().strip() if bridge_nf_call.exists() else "0"
    return InventoryObserved(
        physical_networks=info.physical_networks, traits=traits, tunnel_address=info.tunnel_address
    )
