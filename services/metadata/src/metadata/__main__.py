"""`cirra-metadata`: one replica of the metadata service."""

from __future__ import annotations

import sys

from core.service import run_service
from metadata.bootstrap import bootstrap
from metadata.settings import MetadataSettings


def main() -> int:
    return run_service("metadata", MetadataSettings(), bootstrap)


if __name__ == "__main__":
    sys.exit(main())
