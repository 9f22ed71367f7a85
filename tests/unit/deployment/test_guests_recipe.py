"""What a guest's image depends on: the digest of its recipe, and the texts that go into it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deployment.guests import GuestBuildError, debian, tiny
from deployment.guests.initramfs import Entry
from deployment.guests.kernel import unpacked_kernel, versioned_package
from deployment.guests.modules import Module
from deployment.guests.recipe import FILES_DIR, PACKAGE_DIR, digest_of, read_sources

META_PACKAGE_RECORD = """\
Package: linux-image-cloud-amd64
Provides: linux-latest-modules-6.1.0-99-cloud-amd64, wireguard-modules (= 1.0.0)
Depends: linux-image-6.1.0-99-cloud-amd64 (= 6.1.200-1)
Description: Linux for x86-64 cloud (meta-package)
"""


def test_the_kernel_behind_the_meta_package_is_found() -> None:
    assert versioned_package(META_PACKAGE_RECORD) == "linux-image-6.1.0-99-cloud-amd64"


def test_a_meta_package_without_kernel_is_an_error_with_a_remedy() -> None:
    with pytest.raises(GuestBuildError, match="apt-get update"):
        versioned_package("Package: linux-image-cloud-amd64\nDepends: nothing\n")


@pytest.mark.parametrize("lib", ["lib/modules", "usr/lib/modules"])
def test_an_unpacked_kernel_is_discovered_whatever_its_version(tmp_path: Path, lib: str) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-7.0-test").touch()
    (tmp_path / lib / "7.0-test").mkdir(parents=True)
    kernel = unpacked_kernel(tmp_path)
    assert (kernel.release, kernel.modules_dir) == ("7.0-test", tmp_path / lib / "7.0-test")


def test_no_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GuestBuildError, match="0 kernels"):
        unpacked_kernel(tmp_path)


def test_the_digest_changes_with_a_name_a_content_and_their_boundary() -> None:
    digests = {
        digest_of({"a": b"x"}),
        digest_of({"b": b"x"}),
        digest_of({"a": b"y"}),
        digest_of({"a": b"x", "b": b""}),
        digest_of({"a": b"xb"}),
        digest_of({"ab": b"x"}),
    }
    assert len(digests) == 6
    assert digest_of({"a": b"1", "b": b"2"}) == digest_of({"b": b"2", "a": b"1"})


def test_sources_are_files_and_whole_folders(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_bytes(b"1")
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/two").write_bytes(b"2")
    assert read_sources(tmp_path, ("one.py", "folder")) == {"one.py": b"1", "folder/deep/two": b"2"}


@pytest.mark.parametrize("recipe", [tiny.RECIPE, debian.RECIPE], ids=lambda recipe: recipe.kind)
def test_the_sources_of_a_recipe_exist(recipe: tiny.Recipe) -> None:
    sources = read_sources(PACKAGE_DIR, recipe.sources)
    for name in recipe.sources:
        assert any(source == name or source.startswith(f"{name}/") for source in sources), name


def tiny_tree() -> dict[str, Entry]:
    tree = tiny.guest_tree(b"busybox", ["busybox", "sh"], [Module("bus", b"ELF1"), Module("net", b"ELF2")])
    return {entry.path: entry for entry in tree}


def test_the_tiny_tree_holds_busybox_its_applets_and_the_modules_in_order() -> None:
    tree = tiny_tree()
    assert tree["init"].content == b"bin/busybox"
    assert tree["bin/sh"].content == b"busybox"
    assert tree["bin/busybox"].content == b"busybox"
    assert tree["lib/modules/order"].content == b"bus\nnet\n"
    assert tree["lib/modules/net.ko"].content == b"ELF2"


def test_the_tiny_tree_has_every_folder_before_what_it_holds() -> None:
    seen = {"."}
    for path in tiny_tree():
        assert str(Path(path).parent) in seen, path
        seen.add(path)


def test_every_file_of_the_tiny_guest_is_used() -> None:
    used = {entry.content for entry in tiny_tree().values()}
    unused = [file.name for file in (FILES_DIR / "tiny").iterdir() if file.read_bytes() not in used]
    assert unused == ["extlinux.conf"]  # the boot loader's, on the disk itself


def test_mmdebstrap_installs_the_packages_from_the_given_sources() -> None:
    command = debian.mmdebstrap_command(Path("/w/root"), Path("/w/in it"), [Path("/etc/apt/sources.list")])
    assert command[-3:] == ["bookworm", "/w/root", "/etc/apt/sources.list"]
    assert f"--include={','.join(debian.PACKAGES)}" in command
    assert "--setup-hook=copy-in '/w/in it' /etc" in command


def test_only_apt_sources_of_the_suite_are_passed_on(tmp_path: Path) -> None:
    contents = {
        "a.sources": "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n",
        "b.list": "deb http://mirror.test/security bookworm-security main\n",
        "other-name.list": "deb http://vendor.test/apt vendor-bookworm main\n",
        "other-suite.list": "deb http://mirror.test/debian trixie main\n",
        "comment.list": "# deb http://mirror.test/debian bookworm main\n",
        "disabled.list.off": "deb http://mirror.test/debian bookworm main\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    found = debian.apt_sources([*tmp_path.iterdir(), tmp_path / "absent.list"])
    assert found == [tmp_path / "a.sources", tmp_path / "b.list"]


def test_cloud_init_looks_for_openstack_first_and_makes_one_host_key() -> None:
    configuration = yaml.safe_load(
        (FILES_DIR / "debian/root/etc/cloud/cloud.cfg.d/90_cirra.cfg").read_text(),
    )
    assert configuration["datasource_list"] == ["OpenStack", "Ec2", "None"]
    assert configuration["ssh_genkeytypes"] == ["ed25519"]
    assert {"users-groups", "ssh", "growpart", "resizefs"} <= set(configuration["cloud_init_modules"])
    assert "scripts-user" in configuration["cloud_final_modules"]
