"""A guest with Debian's kernel and this machine's programs: this repository's tests run in it as if it were a host.

QEMU boots the kernel itself, without a disk. The guest's root is this machine's, by virtiofs and read only, with an
overlay in the guest's memory: so there is nothing to install, and nothing that a test does gets out. Its console is
told line by line; what pytest found comes as JUnit's XML over a second serial line.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from xml.etree import ElementTree

from deployment.guests.commands import contained, find_tool, run
from deployment.guests.initramfs import character_device, directory, file, pack, symlink
from deployment.guests.kernel import Kernel, fetch_kernel
from deployment.guests.modules import collect_modules

REPOSITORY = Path(__file__).parents[3]
MEMORY_MIB = 1536
# What the guest needs to reach its root; all else it loads by itself, as a machine does.
_FIRST_MODULES = ("virtio_pci", "virtiofs", "overlay")
_FOLDERS = ("bin", "dev", "proc", "sys", "machine", "changes", "root", "modules")
# Debian's package of QEMU has it; it is not on the PATH.
_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
_SERVING_S = 30.0
# A view of this machine that cannot be written: the root's file system, and the repository's if that is another.
_VIEW = """
mount --bind / "$1"
mount --bind "$2" "$1$2"
mount -o remount,bind,ro "$1$2"
mount -o remount,bind,ro "$1"
exec "$3" --socket-path="$4" -o source="$1" -o cache=always -o sandbox=chroot --rlimit-nofile=0
"""


@dataclass(frozen=True, slots=True)
class Found:
    """By test id (`tests.contract.network.test_vlan::test_…`): what came of it."""

    passed: frozenset[str]
    skipped: frozenset[str]
    failed: frozenset[str]
    console: str


async def run_tests(folder: Path, selected: Sequence[str], *, modules: Sequence[str], timeout_s: float) -> Found:
    """What pytest says of *selected* in the guest. modules: that an operator of such a host loads."""
    kernel = await asyncio.to_thread(_prepared_kernel, folder)
    script = _script(kernel, selected, modules)
    initrd, result, console = folder / "initrd.gz", folder / "result.xml", folder / "console.log"
    initrd.write_bytes(await asyncio.to_thread(_initramfs, kernel, script))
    async with _machine_served(folder) as socket:
        process = await asyncio.create_subprocess_exec(
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-machine", "pc,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
            "-m", str(MEMORY_MIB), "-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",
            "-kernel", str(kernel.image), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0",
            "-chardev", f"socket,id=machine,path={socket}",
            "-device", "vhost-user-fs-pci,chardev=machine,tag=machine",
            "-serial", f"file:{console}", "-serial", f"file:{result}",
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        said = await _until_off(process, timeout_s)
    return await asyncio.to_thread(_found, result, console, said)


async def _until_off(process: Process, timeout_s: float) -> str:
    """What QEMU itself says."""
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
            return output.decode(errors="replace")
    except TimeoutError:
        return f"it still ran after {timeout_s:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _machine_served(folder: Path) -> AsyncIterator[Path]:
    """The socket at which the guest finds its root. It is served until the block ends."""
    view, socket = folder / "machine", folder / "machine.sock"
    view.mkdir()
    argv = contained(["sh", "-e", "-c", _VIEW, "sh", view, REPOSITORY, _VIRTIOFSD, socket])
    with (folder / "virtiofsd.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*map(str, argv), stdin=DEVNULL, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(_SERVING_S):
            while not socket.exists():
                assert process.returncode is None, (folder / "virtiofsd.log").read_text()
                await asyncio.sleep(0.05)
        yield socket
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _prepared_kernel(folder: Path) -> Kernel:
    kernel = fetch_kernel(folder)
    run(
        ["busybox", "depmod", "-b", kernel.modules_dir.parents[2], kernel.release],
        timeout_s=120,
        remedy="see what depmod says",
    )
    return kernel


def _initramfs(kernel: Kernel, script: str) -> bytes:
    busybox = find_tool("busybox")
    assert busybox is not None, "apt-get install busybox-static"
    modules = collect_modules(kernel.modules_dir, _FIRST_MODULES)
    return pack(
        [
            *(directory(name) for name in _FOLDERS),
            # The kernel opens it as init's standard output before devtmpfs can be mounted.
            character_device("dev/console", 5, 1),
            file("bin/busybox", busybox.read_bytes(), executable=True),
            symlink("bin/sh", "busybox"),
            *(file(f"modules/{module.name}.ko", module.content) for module in modules),
            file("modules/order", "".join(f"{module.name}\n" for module in modules).encode()),
            file("init", Path(__file__).with_name("init.sh").read_bytes(), executable=True),
            file("tests.sh", script.encode()),
        ]
    )


def _script(kernel: Kernel, selected: Sequence[str], modules: Sequence[str]) -> str:
    """What the guest runs as its first process, in its root."""
    pytest = [
        sys.executable, "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "--timeout=600",
        "--basetemp=/run/tests", "--junitxml=/run/result.xml", "-o", "junit_family=xunit1", *selected,
    ]  # fmt: skip
    installed = f"/lib/modules/{kernel.release}"
    return f"""
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${{number%%:*}}" "/dev/${{number##*:}}"; done
test -e /sbin/modprobe || ln -s /usr/bin/busybox /sbin/modprobe
mkdir -p {installed} && mount --bind {quote(str(kernel.modules_dir))} {installed}
for module in {" ".join(modules)}; do modprobe "$module"; done
ip link set lo up
cd {quote(str(REPOSITORY))}
{" ".join(map(quote, pytest))}
busybox stty -F /dev/ttyS1 raw
cat /run/result.xml >/dev/ttyS1
busybox poweroff -f
"""


def _found(result: Path, console: Path, said: str) -> Found:
    shown = (console.read_text(errors="replace") if console.exists() else "") + said
    assert result.exists() and result.stat().st_size, f"the guest told nothing:\n{shown}"
    outcomes: dict[str, set[str]] = {"passed": set(), "skipped": set(), "failed": set()}
    for case in ElementTree.parse(result).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[outcome].add(f"{case.get('classname')}::{case.get('name')}")
    return Found(**{name: frozenset(each) for name, each in outcomes.items()}, console=shown)
