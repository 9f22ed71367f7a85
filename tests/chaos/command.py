"""The `cirra` command as the administrator's, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment import clouds
from tests.chaos.cloud import ChaosCloud

_COMMAND = Path(sys.executable).with_name("cirra")


@dataclass(frozen=True, slots=True)
class Printed:
    stdout: str
    stderr: str
    code: int


class Cirra:
    """`home`: a folder for what the command remembers. By the last gateway."""

    def __init__(self, cloud: ChaosCloud, home: Path) -> None:
        admin = clouds.admin(cloud.layout)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        self._environment = {
            **kept,
            "HOME": str(home),
            "CIRRA_ENDPOINT": cloud.gateways[-1],
            "CIRRA_CA_FILE": admin.ca_file,
            "CIRRA_USER": admin.user,
            "CIRRA_PASSWORD": admin.password,
            "CIRRA_PROJECT": admin.project,
        }

    async def run(self, *arguments: str) -> Printed:
        process = await asyncio.create_subprocess_exec(
            str(_COMMAND),
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Printed(stdout.decode(), stderr.decode(), process.returncode)

    async def json(self, *arguments: str) -> Any:
        """What it prints as JSON. Fails with its complaint when it fails."""
        printed = await self.run(*arguments, "-o", "json")
        assert printed.code == 0, printed.stderr
        return json.loads(printed.stdout)
