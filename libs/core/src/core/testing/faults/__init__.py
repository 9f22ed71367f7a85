"""What goes wrong in the field, made to go wrong on purpose. Each fault ends with its block, whatever ends that.

| module | faults |
|---|---|
| `processes` | SIGKILL, SIGSTOP and SIGCONT, for a process or a tree |
| `link` | a TCP connection that is cut, reset, silent one way or both, late, or slow: Postgres, NATS, gRPC |
| `partition` | packets between network namespaces, and so between hosts, that are dropped |
| `bus` | commands and reports that come late, twice, in another order, or after their answer was lost |

A fault that could not be done raises `FaultFailed`: a test whose fault did nothing has shown nothing.
"""

from __future__ import annotations

from core.testing.faults.errors import FaultFailed

__all__ = ["FaultFailed"]
