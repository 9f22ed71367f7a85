"""Rules of the host's own that reject what bridges pass on: a condition of the host, not of the guest's.

Where a bridge shows its frames to the hooks of IP (ADR 26, or everybody's bridge-nf-call-iptables), they meet the
host's FORWARD chain, and `FORWARD … REJECT` (firewalld, Docker, a distribution's defaults) silently eats them. The
rulesets beside ours are read; a probe says whether they bite: what comes before a REJECT may let guests pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from net_agent.diagnosis.finding import Finding, broken, ok, unknown
from net_agent.diagnosis.legacy import FAMILY as LEGACY
from net_agent.diagnosis.legacy import list_legacy
from net_agent.diagnosis.nft import Listing, is_ours, list_foreign
from net_agent.diagnosis.path import GuestPath
from net_agent.drivers.linux.guard.bridging import is_shown_to_ip
from net_agent.drivers.linux.links import get_link

_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_FAMILIES = ("ip", "inet", "bridge", LEGACY)
_ENDS = ("drop", "reject")
_FIREWALLD = "firewalld"
# Family, table, chain.
_Chain = tuple[str, str, str]


async def host_filter(path: GuestPath) -> Finding:
    suspects, bridged = await path.on_host(lambda: _look(path.network.bridge))
    if not suspects:
        return ok("no rules of the host's own reject what bridges pass on")
    named = ", ".join(f"{' '.join(chain)} ({how})" for chain, how in suspects.items())
    if path.voice is None or not path.network.dhcp_subnets or not path.port.active:
        return unknown("HOST_FILTER_SUSPECT", f"{named} may reject the guest's frames; no probe can tell")
    if await path.offered() is not None:
        return ok(f"{named} rejects some, and lets a probe of the guest's pass")
    how = "frames on bridges meet it (br_netfilter shows them)" if bridged else "frames on bridges meet it"
    return broken(
        "HOST_FILTER_REJECTS",
        f"{named} rejects or drops, {how}, and a probe of the guest's gets no answer",
        "accept there what Cirra's bridges pass on, and keep it so where the host's rules are kept: "
        + "; ".join(accepting(chain) for chain in suspects),
    )


def accepting(chain: _Chain) -> str:
    """The command by which a chain lets pass what comes by our bridges and goes by them (pure)."""
    family, *names = chain
    if family == LEGACY:
        return f"iptables-legacy -t {names[0]} -I {names[1]} -i brq+ -o brq+ -j ACCEPT"
    if names[0] == _FIREWALLD:
        # It makes its table anew when it likes, and where it owns it (NftablesTableOwner) nobody else may.
        return "firewall-cmd --permanent --zone=trusted --add-interface=brq+; firewall-cmd --reload"
    both = 'meta ibrname "brq*"' if family == "bridge" else 'iifname "brq*" oifname "brq*"'
    return f"nft insert rule {family} {' '.join(names)} {both} accept"


def _look(bridge: str) -> tuple[Mapping[_Chain, str], bool]:
    """Chains that may reject; whether frames on this bridge meet those of IP."""
    with IPRoute() as ip:
        link = get_link(ip, bridge)
    bridged = link is not None and is_shown_to_ip(link)
    bridged = bridged or (_BRIDGED.exists() and _BRIDGED.read_text().strip() == "1")
    families = _FAMILIES if bridged else ("bridge",)
    return suspects(all_foreign(), families), bridged


def all_foreign() -> Listing:
    """The rules of others, whoever keeps them, in nft's words. Raises OSError, subprocess.SubprocessError. Blocks."""
    return list_foreign() + list_legacy()


def suspects(ruleset: Sequence[Mapping[str, Any]], families: Sequence[str] = _FAMILIES) -> Mapping[_Chain, str]:
    """The base chains of others, at hook forward, that end what comes with drop or reject, some or all of it (pure).

    By themselves or in a chain that they lead to; how: "policy drop", "drop, reject".
    ruleset: nft's list (libnftables-json(5)), and that of `legacy`.
    """
    policies = {
        (chain["family"], chain["table"], chain["name"]): chain.get("policy", "accept")
        for entry in ruleset
        if (chain := entry.get("chain")) and chain.get("hook") == "forward" and chain["family"] in families
    }
    rules: dict[_Chain, list[Sequence[Mapping[str, Any]]]] = {}
    for entry in ruleset:
        if rule := entry.get("rule"):
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule.get("expr", ()))
    found = {}
    for key, policy in policies.items():
        if is_ours(key[1]):
            continue
        if policy == "drop":
            found[key] = "policy drop"
        elif how := sorted(set(_ends(key, rules, set()))):
            found[key] = ", ".join(how)
    return found


def _ends(
    chain: _Chain, rules: Mapping[_Chain, Sequence[Sequence[Mapping[str, Any]]]], been: set[_Chain]
) -> Iterator[str]:
    """How rules of this chain, and of those that it leads to, end what comes."""
    been.add(chain)
    for parts in rules.get(chain, ()):
        for part in parts:
            yield from (verdict for verdict in _ENDS if verdict in part)
            # A target of iptables-nft (xtables-nft(8)): nft knows no more of it than its name, or not even that.
            if "xt" in part and (part["xt"] is None or part["xt"] == {"type": "target", "name": "REJECT"}):
                yield "reject"
            lead = part.get("jump") or part.get("goto")
            if lead and (target := (chain[0], chain[1], lead["target"])) not in been:
                yield from _ends(target, rules, been)
