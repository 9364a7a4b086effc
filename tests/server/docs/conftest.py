from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import torch

from tests.server.docs.outputs import shape
from tests.server.running import Running, running_checkpoint

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine


@pytest.fixture(scope="session")
def compared() -> Callable[[str], str]:
    """What of an output is: all of it on a CPU, where pages are written; elsewhere the model has other words."""
    return shape if torch.cuda.is_available() else str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(vllm_engine: "VllmEngine", checkpoint: Path) -> AsyncIterator[Running]:
    async with running_checkpoint(vllm_engine, checkpoint) as server:
        yield server
