"""Where the control groups of a private libvirtd are made: below those of the caller."""

from __future__ import annotations

from pathlib import Path

from deployment.libvirtd.cgroups import Hierarchy, create, hierarchies, record, recorded

V1 = """\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 1 0:27 / /proc rw - proc proc rw
"""


def test_each_hierarchy_has_the_callers_own_group() -> None:
    own = "3:cpu,cpuacct:/\n2:memory:/limits/me\n1:name=systemd:/user\n0::/slice\n"
    base = Path("/sys/fs/cgroup")
    assert hierarchies(V1, own) == [
        Hierarchy(base / "cpu,cpuacct", base / "cpu,cpuacct"),
        Hierarchy(base / "memory", base / "memory/limits/me"),
        Hierarchy(base / "systemd", base / "systemd/user"),
        Hierarchy(base / "unified", base / "unified/slice"),
    ]


def test_in_a_container_the_mount_begins_at_the_containers_group() -> None:
    mounts = "27 25 0:24 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    assert hierarchies(mounts, "2:memory:/docker/abc/me\n") == [
        Hierarchy(Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory/me"))
    ]
    assert hierarchies(mounts, "2:memory:/elsewhere\n") == []


def test_version_two_alone() -> None:
    base = Path("/sys/fs/cgroup")
    mounts = "29 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert hierarchies(mounts, "0::/me\n") == [Hierarchy(base, base / "me")]


def test_a_cpuset_inherits_what_it_must_have(tmp_path: Path) -> None:
    own = tmp_path / "own"
    group = own / "name"
    group.mkdir(parents=True)
    for folder in (own, group):
        (folder / "cpuset.cpus").write_text("0-1\n" if folder == own else "\n")
        (folder / "cpuset.mems").write_text("0\n" if folder == own else "\n")
    assert create([Hierarchy(tmp_path, own)], "name") == {tmp_path: group}
    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (group / "cpuset.mems").read_text() == "0\n"


def test_the_record_is_read_back(tmp_path: Path) -> None:
    groups = {Path("/a/b,c"): Path("/a/b,c/x"), Path("/d"): Path("/d/x")}
    assert recorded(tmp_path / "record") == {}
    record(groups, tmp_path / "record")
    assert recorded(tmp_path / "record") == groups
