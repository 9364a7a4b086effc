"""What tests of several folders share: the embedded checkpoint on real vLLM, started once for all of them."""

import asyncio
import gc
import logging
import os
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import pytest_asyncio
from hypothesis import settings

from server.in_process import InProcess

if TYPE_CHECKING:
    from server.engine.http_engine import HttpEngine
    from server.engine.transformers_engine import TransformersEngine
    from server.engine.vllm_engine import VllmEngine

    StartVllm: TypeAlias = Callable[..., AbstractAsyncContextManager[VllmEngine]]

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # more of torch's threads than cores are free spin, waiting for each other

settings.register_profile("any machine", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("any machine")

DEMO = Path(__file__).parents[1] / "training" / "checkpoints" / "demo"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--checkpoint", type=Path, default=DEMO, help="staged checkpoint that real vLLM is tested with")
    parser.addoption("--write-docs", action="store_true", help="write what pages show anew instead of comparing it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "start_vllm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def checkpoint(pytestconfig: pytest.Config) -> Path:
    path: Path = pytestconfig.getoption("--checkpoint")
    return path


@pytest.fixture(scope="session")
def write_docs(pytestconfig: pytest.Config) -> bool:
    """Whether pages are to be written anew rather than found out of date."""
    return bool(pytestconfig.getoption("--write-docs"))


@asynccontextmanager
async def _running_vllm(model: Path, **options: Any) -> "AsyncIterator[VllmEngine]":
    """vLLM and torch warn about each other when imported, and about what vLLM leaves to the garbage collector."""
    with warnings.catch_warnings(action="ignore"):
        from server.engine.vllm_engine import VllmEngine

        engine = await VllmEngine(str(model), **options).__aenter__()
    try:
        yield engine
    finally:
        with warnings.catch_warnings(action="ignore"):
            await engine.__aexit__(None, None, None)
            await asyncio.sleep(0)
            gc.collect()


@pytest.fixture(scope="session")
def start_vllm() -> "StartVllm":
    return _running_vllm


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm_engine(start_vllm: "StartVllm", checkpoint: Path) -> "AsyncIterator[VllmEngine]":
    """Tests that use it run in the session's loop: `pytest.mark.asyncio(loop_scope="session")`."""
    async with start_vllm(checkpoint) as engine:
        yield engine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def transformers_engine(checkpoint: Path) -> "AsyncIterator[TransformersEngine]":
    """As `vllm_engine`, in this process."""
    with warnings.catch_warnings(action="ignore"):
        from server.engine.transformers_engine import TransformersEngine

        engine = await TransformersEngine(str(checkpoint)).__aenter__()
    try:
        yield engine
    finally:
        await engine.__aexit__(None, None, None)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http_engine(vllm_engine: "VllmEngine", checkpoint: Path) -> "AsyncIterator[HttpEngine]":
    """As `vllm_engine`, which vLLM's own server here puts behind its routes."""
    from server.engine.http_engine import HttpEngine

    level = logging.root.level
    with warnings.catch_warnings(action="ignore"):
        app = await _vllms_server(vllm_engine._llm, checkpoint)
    logging.root.setLevel(level)  # which vLLM raises
    async with HttpEngine(str(checkpoint), "http://vllm", transport=InProcess(app)) as engine:
        yield engine


async def _vllms_server(llm: Any, checkpoint: Path) -> Any:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    new_parser: Any = FlexibleArgumentParser
    arguments = make_arg_parser(new_parser()).parse_args(
        ["--model", str(checkpoint), "--enable-scale-out", "--enable-prompt-tokens-details"]
    )
    tasks = await llm.get_supported_tasks()
    app = build_app(arguments, tasks)
    await init_app_state(llm, app.state, arguments, tasks)
    return app
