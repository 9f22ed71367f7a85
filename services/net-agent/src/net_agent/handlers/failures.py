"""A driver's fault as an agent's answer."""

from __future__ import annotations

import structlog

from core.agent.handler import AgentFailure
from net_agent.drivers.base import NetworkFault

_log = structlog.get_logger(__name__)


def failure_of(fault: NetworkFault) -> AgentFailure:
    _log.warning("network fault", reason=fault.reason, error=fault.message, remedy=fault.remedy)
    return AgentFailure(
        fault.message,
        reason=fault.reason,
        remedy=fault.remedy,
        retryable=fault.retryable,
        reschedule=fault.reschedule,
    )
