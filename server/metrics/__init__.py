"""Metrics of the searches: `swires_*`, on one page with what the engine registers itself (vLLM's `vllm:*`)."""

from server.metrics.page import Metrics

__all__ = ["Metrics"]
