"""The block-agent's settings, from the environment (prefix `CIRRA_`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from core.agent.settings import AgentSettings


class BlockAgentSettings(AgentSettings):
    # The one pool of the file back end: a folder, by default below the state directory, and the name it goes by.
    pool_name: str = Field(default="file", min_length=1)
    pool_directory: Path | None = None

    @property
    def pool_folder(self) -> Path:
        return self.pool_directory or self.state_directory / "volumes"
