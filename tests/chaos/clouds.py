"""The cloud that the tests share, until it is used up."""

from __future__ import annotations

from contextlib import AsyncExitStack

from tests.chaos.cloud import ChaosCloud, chaos_cloud
from tests.harness.log_watch import LogWatch

# From here on, checking all that the log implies takes longer than to make a new cloud.
_LONG_LOG = 5000


class Clouds:
    """One at a time. It is left when its log has grown long, or a test has failed in it: that one's logs are kept."""

    def __init__(self, log_watch: LogWatch) -> None:
        self._log_watch = log_watch
        self._stack = AsyncExitStack()
        self._cloud: ChaosCloud | None = None
        self._failed_before = 0

    async def usable(self) -> ChaosCloud:
        if self._cloud is not None and (self._has_failed or await self._is_long(self._cloud)):
            await self.close()
        if self._cloud is None:
            self._failed_before = self._log_watch.failures
            folder = self._stack.enter_context(self._log_watch.folder("cirra-chaos-"))
            self._cloud = await self._stack.enter_async_context(chaos_cloud(folder))
        return self._cloud

    async def close(self) -> None:
        self._cloud = None
        await self._stack.aclose()

    @property
    def _has_failed(self) -> bool:
        return self._log_watch.failures > self._failed_before

    async def _is_long(self, cloud: ChaosCloud) -> bool:
        return (await cloud.log.head()).position > _LONG_LOG
