"""What happens around every RPC that a server of ours answers: layers."""

from __future__ import annotations

from core.rpc.interceptors.authorization import Authorizer
from core.rpc.interceptors.call import Handler, Layer, ServerCall

__all__ = ["Authorizer", "Handler", "Layer", "ServerCall"]
