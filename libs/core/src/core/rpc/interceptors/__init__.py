"""What happens around every RPC that a server of ours answers: one interceptor made of layers."""

from __future__ import annotations

from core.rpc.interceptors.authorization import Authorizer
from core.rpc.interceptors.call import CallInterceptor, Layer, ServerCall

__all__ = ["Authorizer", "CallInterceptor", "Layer", "ServerCall"]
