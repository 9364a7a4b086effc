"""A mend of vLLM 0.32 on a CPU, loaded in its worker's process as `worker_extension_cls`.

Where a prompt is read in parts, as long ones are, and any when many begin at once, what is sampled behind each part
but the last is thrown away, and the generator of a request with a seed is turned back. That of a CPU cannot be: the
worker dies of it, and the engine with it. Here it stays where it is. So a seed gives the same answer only while its
prompt is read in the same parts.
"""

from typing import Any

from vllm.v1.worker.gpu_model_runner import GPUModelRunner


class SeedsOnCpu:
    """Adds nothing to the worker; importing it is what mends it."""


_Runner: Any = GPUModelRunner
_bookkeeping = _Runner._bookkeeping_sync


def _bookkeeping_without_generators(runner: Any, *args: Any, **kwargs: Any) -> Any:
    """Turning them back is all that this method wants of them."""
    generators, runner.input_batch.generators = runner.input_batch.generators, {}
    try:
        return _bookkeeping(runner, *args, **kwargs)
    finally:
        runner.input_batch.generators = generators


_Runner._bookkeeping_sync = _bookkeeping_without_generators
