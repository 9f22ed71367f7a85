"""What the kernel of this machine may not have, on one that does: VLANs, and connections tracked in the bridge.

The contract tests of those run in a guest with Debian's kernel, emulated: minutes.
"""

from __future__ import annotations

import re

import pytest
import pytest_asyncio

from tests.e2e.kernel.guest import REPOSITORY, Found, run_tests

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.asyncio(loop_scope="module"),
]

BOOT_AND_TESTS_S = 1500.0
FOLDER = "tests/contract/network"
FILES = ("test_vlan", "test_linux_security_groups", "test_connection_limits")
# The device of taps is made by udev on a host; 8021q comes with the first VLAN.
MODULES = ("tun",)
# 30 ports amid 80 changes: many minutes here, of what no kernel decides.
LEFT_OUT = "test_linux_security_groups.py::test_ports_that_come_while_groups_and_members_do_are_each_seen_wired"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    selected = [*(f"{FOLDER}/{name}.py" for name in FILES), f"--deselect={FOLDER}/{LEFT_OUT}"]
    return await run_tests(tmp_path_factory.mktemp("kernel"), selected, modules=MODULES, timeout_s=BOOT_AND_TESTS_S)


def require_all(found: Found, file: str) -> None:
    """Each test of the file passed in the guest: none failed, none was skipped for want of a kernel that can."""
    prefix = f"{FOLDER.replace('/', '.')}.{file}::"
    code = (REPOSITORY / FOLDER / f"{file}.py").read_text()
    wanted = set(re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE))
    passed, others = (
        {name.removeprefix(prefix).partition("[")[0] for name in outcomes if name.startswith(prefix)}
        for outcomes in (found.passed, found.failed | found.skipped)
    )
    left_out = {LEFT_OUT.removeprefix(f"{file}.py::")}
    assert not others and wanted and passed == wanted - left_out, found.console


async def test_vlan_networks(found: Found) -> None:
    require_all(found, "test_vlan")


async def test_security_groups_by_connections_tracked_in_the_bridge(found: Found) -> None:
    """Without br_netfilter, which that back end does not need: nf_conntrack_bridge comes with the first rule."""
    require_all(found, "test_linux_security_groups")


async def test_limits_of_connections_tracked_in_the_bridge(found: Found) -> None:
    require_all(found, "test_connection_limits")
