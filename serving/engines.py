"""Engines: the vLLM process that this machine runs itself, and the pool of those that answer."""

from __future__ import annotations

from serving.pool import EngineHealth, EnginePool

__all__ = ["EngineHealth", "EnginePool"]
