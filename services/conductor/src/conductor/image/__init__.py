"""Images: aggregate and commands. The bytes are the gateway's."""

from __future__ import annotations
