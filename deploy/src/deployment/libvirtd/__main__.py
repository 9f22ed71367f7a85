"""The launcher: enters the namespaces of a private libvirtd and becomes one of its daemons.

`python -m deployment.libvirtd ROOT NETWORK_NAMESPACE|- COMMAND…`; the daemon puts itself into the background.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deployment.libvirtd import cgroups
from deployment.libvirtd.layout import Layout
from deployment.libvirtd.namespace import enter


def main(root: str, network_namespace: str, *command: str) -> None:
    layout = Layout(Path(root))
    groups = cgroups.recorded(layout.cgroups_record)
    enter(layout, groups, None if network_namespace == "-" else Path(network_namespace))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
