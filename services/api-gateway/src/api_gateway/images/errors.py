"""Why image data is refused. The reasons are stable: they are in the event `ImageRejected`."""

from __future__ import annotations

from core.errors import FieldViolation, InvalidArgument

HAS_BACKING_FILE = "IMAGE_HAS_BACKING_FILE"
HAS_DATA_FILE = "IMAGE_HAS_DATA_FILE"
IS_ENCRYPTED = "IMAGE_IS_ENCRYPTED"
FORMAT_MISMATCH = "IMAGE_FORMAT_MISMATCH"
FORMAT_UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
IS_CORRUPT = "IMAGE_IS_CORRUPT"
TRUNCATED = "IMAGE_TRUNCATED"
CHECKSUM_MISMATCH = "IMAGE_CHECKSUM_MISMATCH"
TOO_LARGE = "IMAGE_TOO_LARGE"
INSPECTION_FAILED = "IMAGE_INSPECTION_FAILED"


class TransferFailed(InvalidArgument):
    """What arrived is not what was sent. The image stays as it was; the upload may be repeated."""

    def __init__(self, reason: str, field: str, description: str) -> None:
        super().__init__(FieldViolation(field, description), reason=reason)


class ImageRefused(InvalidArgument):
    """What was sent can't be an image here."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(FieldViolation("chunk", description), reason=reason)
        self.description = description
