from __future__ import annotations

from pathlib import Path

import pytest

from net_agent.drivers.base import DriverInfo
from net_agent.inventory import inventory
from net_agent.settings import NetAgentSettings, parse_physical_networks


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRRA_STATE_DIRECTORY", "/srv/cirra")
    monkeypatch.setenv("CIRRA_DRIVER", "simulated")
    monkeypatch.setenv("CIRRA_PHYSICAL_NETWORKS", "physnet1:eth1, physnet2:eth2,")
    settings = NetAgentSettings()
    assert settings.driver == "simulated"
    assert settings.networks_directory == Path("/srv/cirra/networks")
    assert settings.physical_networks == {"physnet1": "eth1", "physnet2": "eth2"}


def test_without_physical_networks_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRRA_PHYSICAL_NETWORKS", raising=False)
    assert NetAgentSettings().physical_networks == {}


@pytest.mark.parametrize("text", ["physnet1", "physnet1:", ":eth1", "a:eth1,a:eth2", "a:eth1,b:eth1"])
def test_a_mapping_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"label|interface"):
        parse_physical_networks(text)


def test_the_inventory_names_segments_driver_and_a_known_trap(tmp_path: Path) -> None:
    trap = tmp_path / "bridge-nf-call-iptables"
    trap.write_text("1\n")
    seen = inventory(DriverInfo("linux", False, ("physnet1",)), trap)
    assert seen.physical_networks == ["physnet1"]
    assert seen.traits == {"network_driver": "linux", "bridge_nf_call_iptables": "1"}
    assert inventory(DriverInfo("linux", False, ()), tmp_path / "none").traits["bridge_nf_call_iptables"] == "0"
