from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from net_agent.drivers.linux import process
from net_agent.drivers.linux.dhcp_link import inner_device, outer_device, service_mac_address
from net_agent.drivers.linux.files import can_reach, limit_log, replace_text
from net_agent.drivers.linux.proxy import listens
from tests.unit.net_agent.samples import NETWORK_ID

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {address}:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
"""


def test_a_file_is_replaced_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert replace_text(path, "")
    assert replace_text(path, "a\n")
    inode = path.stat().st_ino
    assert not replace_text(path, "a\n")
    assert path.stat().st_ino == inode and path.read_text() == "a\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_is_too_long_is_emptied_in_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    limit_log(path)
    path.write_text("0123456789")
    limit_log(path, max_bytes=10)
    assert path.read_text() == "0123456789"
    limit_log(path, max_bytes=9)
    assert path.read_text() == ""


def test_a_private_folder_on_the_way_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    assert not can_reach(folder)
    assert can_reach(Path("/usr"))


def test_a_listener_is_found_by_address_port_and_state() -> None:
    def seen(**fields: str) -> bool:
        return listens(lambda: TCP.format(**({"address": "FEA9FEA9", "port": "0050", "state": "0A"} | fields)))

    assert seen()
    assert not seen(port="0051") and not seen(address="0100007F") and not seen(state="01")


def test_device_names_fit_and_the_service_has_one_mac_address_everywhere() -> None:
    assert outer_device(NETWORK_ID) == "qdh0000000aa01" and inner_device(NETWORK_ID) == "ns-0000000aa01"
    assert service_mac_address(NETWORK_ID) == "0e:00:00:00:aa:01"


def test_a_process_is_found_and_signalled_by_its_marker_only(tmp_path: Path) -> None:
    marker = f"--marker={tmp_path}"
    pid_file = tmp_path / "pid"
    command = ["sh", "-c", "echo ready; read line", "sh", marker]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        # Popen returns in the middle of its exec, when it has no command line yet.
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        assert process.find(marker, pid_file) == child.pid
        pid_file.write_text(str(os.getpid()))
        assert process.find(marker, pid_file) == child.pid
        assert not process.send(os.getpid(), marker, signal.SIGKILL)
        pid_file.write_text("no number")
        process.stop(marker, pid_file)
        assert child.wait(5) == -signal.SIGTERM and not pid_file.exists()
        assert process.find(marker, pid_file) is None
        process.stop(marker, pid_file)
    finally:
        child.kill()
        child.wait()
        for pipe in filter(None, (child.stdin, child.stdout)):
            pipe.close()
