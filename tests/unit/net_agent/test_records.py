from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from net_agent.drivers.linux.records import Records
from tests.unit.net_agent.samples import NETWORK, make_port


def test_records_outlive_the_process(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.keep(make_port(11))
    records.keep(make_port(12))
    again = Records(tmp_path)
    assert again.port(make_port(11).port_id) == make_port(11)
    assert {port.port_id for port in again.ports(NETWORK.network_id)} == {make_port(11).port_id, make_port(12).port_id}
    assert again.network(NETWORK.network_id) == NETWORK
    assert again.network_ids() == {NETWORK.network_id}


def test_the_newest_description_of_a_network_holds_whoever_brought_it(tmp_path: Path) -> None:
    records = Records(tmp_path)
    newer = replace(NETWORK, generation=2, mtu=1400)
    records.keep(make_port(11))
    assert records.keep(make_port(12, network=newer)) == newer
    assert records.keep(make_port(13)) == newer
    # It outlives the port that brought it, and the process.
    records.forget(make_port(12).port_id)
    assert records.network(NETWORK.network_id) == newer
    assert Records(tmp_path).network(NETWORK.network_id) == newer


def test_of_two_descriptions_of_one_generation_the_later_holds(tmp_path: Path) -> None:
    records = Records(tmp_path)
    later = replace(NETWORK, mtu=1400)
    records.keep(make_port(11))
    assert records.keep(make_port(12, network=later)) == later


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.keep(make_port(11))
    records.forget(make_port(11).port_id)
    records.forget(make_port(11).port_id)
    assert records.ports() == [] and Records(tmp_path).ports() == []
    records.forget_network(NETWORK.network_id)
    records.forget_network(NETWORK.network_id)
    assert records.network(NETWORK.network_id) is None and records.network_ids() == frozenset()


def test_a_record_that_does_not_change_is_not_written(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.keep(make_port(11))
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*.json")}
    records.keep(make_port(11))
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*.json")} == before
    records.keep(make_port(11, active=False))
    changed = {path.name for path in tmp_path.rglob("*.json") if path.stat().st_ino != before[path]}
    assert changed == {f"{make_port(11).port_id}.json"}


def test_other_folders_are_not_networks(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert Records(tmp_path).network_ids() == frozenset()


def test_a_folder_that_is_not_mounted_is_left_empty_and_read_when_it_is_there(tmp_path: Path) -> None:
    Records(tmp_path / "mounted").keep(make_port(11))
    records = Records(tmp_path / "networks")
    assert records.ports() == [] and records.network_ids() == frozenset()
    records.forget(make_port(11).port_id)
    assert not (tmp_path / "networks").exists()
    (tmp_path / "mounted").rename(tmp_path / "networks")
    assert records.ports() == [make_port(11)]
