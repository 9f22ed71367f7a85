"""`cirra-metadata`: one replica of the metadata service. With `--rebuild`: builds its read model again, and ends."""

from __future__ import annotations

import sys

from core.rebuild import run_or_rebuild
from metadata.bootstrap import bootstrap
from metadata.documents import DocumentsProjection
from metadata.settings import MetadataSettings


def main() -> int:
    return run_or_rebuild("metadata", MetadataSettings(), bootstrap, (DocumentsProjection(),), schema="metadata")


if __name__ == "__main__":
    sys.exit(main())
