from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import torch

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from tests.server.docs.outputs import shape
from tests.server.running import Running, running

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine


@pytest.fixture(scope="session")
def write_docs(pytestconfig: pytest.Config) -> bool:
    """Whether pages are to be written anew rather than found out of date."""
    return bool(pytestconfig.getoption("--write-docs"))


@pytest.fixture(scope="session")
def compared() -> Callable[[str], str]:
    """What of an output is: all of it on a CPU, where pages are written; elsewhere the model has other words."""
    return shape if torch.cuda.is_available() else str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(vllm_engine: "VllmEngine", checkpoint: Path) -> AsyncIterator[Running]:
    """What `make serve` serves."""
    known = checkpoints.load(str(checkpoint))
    scorers = make_scorers(vllm_engine, known, chosen_scorers(known, ()))
    settings = Settings.model_validate({"model": str(checkpoint), "served_name": "demo"})
    async with running(create_app(vllm_engine, scorers, settings, known.lengths)) as server:
        yield server
