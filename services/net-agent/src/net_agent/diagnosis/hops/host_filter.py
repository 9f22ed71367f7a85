"""Rules of the host's own that reject what bridges pass on: a condition of the host, not of the guest's.

Where a bridge shows its frames to the hooks of IP (ADR 26, or everybody's bridge-nf-call-iptables), they meet the
host's FORWARD chain, and `FORWARD … REJECT` (firewalld, Docker, a distribution's defaults) silently eats them. The
rulesets beside ours are read; a probe says whether they bite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, ok, unknown
from net_agent.diagnosis.nft import list_ruleset
from net_agent.diagnosis.path import GuestPath
from net_agent.drivers.linux.guard.bridging import is_shown_to_ip
from net_agent.drivers.linux.links import get_link

_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_FAMILIES = ("ip", "inet", "bridge")
_OURS = "cirra"
_ENDS = ("drop", "reject")


async def host_filter(path: GuestPath) -> Finding:
    suspects, bridged = await path.on_host(lambda: _look(path.network.bridge))
    if not suspects:
        return ok("no rules of the host's own reject what bridges pass on")
    named = ", ".join(suspects)
    if path.voice is None or not path.network.dhcp_subnets or not path.port.active:
        return unknown("HOST_FILTER_SUSPECT", f"{named} may reject the guest's frames; no probe can tell")
    if await path.offered() is not None:
        return ok(f"{named} rejects some, and lets a probe of the guest's pass")
    how = "frames on bridges meet it (br_netfilter shows them)" if bridged else "frames on bridges meet it"
    return broken(
        "HOST_FILTER_REJECTS",
        f"{named} rejects or drops, {how}, and a probe of the guest's gets no answer",
        "accept there what is bridged by brq+: iptables -I FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
    )


def _look(bridge: str) -> tuple[Sequence[str], bool]:
    """Chains that may reject; whether frames on this bridge meet those of IP."""
    with IPRoute() as ip:
        link = get_link(ip, bridge)
    bridged = link is not None and is_shown_to_ip(link)
    bridged = bridged or (_BRIDGED.exists() and _BRIDGED.read_text().strip() == "1")
    families = _FAMILIES if bridged else ("bridge",)
    return suspects(list_ruleset(), families), bridged


def suspects(ruleset: Sequence[Mapping[str, Any]], families: Sequence[str] = _FAMILIES) -> Sequence[str]:
    """The base chains of others, at hook forward, that end what comes with drop or reject, some or all of it (pure).

    ruleset: nft's list (libnftables-json(5)). Said as "ip filter FORWARD (policy drop)".
    """
    chains = {}
    for entry in ruleset:
        chain = entry.get("chain")
        if chain and chain.get("hook") == "forward" and chain["family"] in families and not _is_ours(chain["table"]):
            chains[chain["family"], chain["table"], chain["name"]] = chain.get("policy", "accept")
    found = {key: f"policy {policy}" for key, policy in chains.items() if policy == "drop"}
    for entry in ruleset:
        rule = entry.get("rule")
        if rule is None or (rule["family"], rule["table"], rule["chain"]) not in chains:
            continue
        if ends := [verdict for verdict in _ENDS if any(verdict in part for part in rule.get("expr", ()))]:
            found.setdefault((rule["family"], rule["table"], rule["chain"]), ends[0])
    return [f"{' '.join(key)} ({how})" for key, how in found.items()]


def _is_ours(table: str) -> bool:
    return table == _OURS or table.startswith(f"{_OURS}-") or table.startswith(f"{_OURS}_")
