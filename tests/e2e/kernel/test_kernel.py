"""What the kernel of this machine may not have, on one that does: VLANs, and connections tracked in the bridge.

The contract tests of those run in a guest with Debian's kernel, emulated: minutes.
"""

from __future__ import annotations

from collections.abc import Collection

import pytest
import pytest_asyncio

from tests.e2e.kernel.guest import Found, run_tests

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.asyncio(loop_scope="module"),
]

BOOT_AND_TESTS_S = 1500.0
FOLDER = "tests/contract/network"
FILES = ("test_vlan", "test_linux_security_groups")
# The device of taps is made by udev on a host; 8021q comes with the first VLAN.
MODULES = ("tun",)
# 30 ports amid 80 changes: many minutes here, of what no kernel decides.
LEFT_OUT = "test_linux_security_groups.py::test_ports_that_come_while_groups_and_members_do_are_each_seen_wired"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    selected = [*(f"{FOLDER}/{name}.py" for name in FILES), f"--deselect={FOLDER}/{LEFT_OUT}"]
    return await run_tests(tmp_path_factory.mktemp("kernel"), selected, modules=MODULES, timeout_s=BOOT_AND_TESTS_S)


def those_of(outcomes: Collection[str], file: str) -> list[str]:
    return sorted(name for name in outcomes if name.startswith(f"{FOLDER.replace('/', '.')}.{file}::"))


async def test_vlan_networks(found: Found) -> None:
    """All of it passed: nothing was skipped for want of a kernel that can."""
    assert not those_of(found.failed | found.skipped, "test_vlan"), found.console
    assert len(those_of(found.passed, "test_vlan")) == 6, found.console


async def test_security_groups_by_connections_tracked_in_the_bridge(found: Found) -> None:
    """Without br_netfilter, which that back end does not need: nf_conntrack_bridge comes with the first rule."""
    assert not those_of(found.failed | found.skipped, "test_linux_security_groups"), found.console
    assert len(those_of(found.passed, "test_linux_security_groups")) == 14, found.console
