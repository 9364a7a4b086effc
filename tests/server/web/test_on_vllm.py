"""The page over the embedded checkpoint on real vLLM."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from swires.stages import Stage
from tests.server.running import running
from tests.server.web.browser import browsing, visiting

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine


@pytest.mark.asyncio(loop_scope="session")
async def test_the_sample_is_answered(vllm_engine: "VllmEngine", checkpoint: Path) -> None:
    known = checkpoints.load(str(checkpoint))
    scorers = make_scorers(vllm_engine, known, chosen_scorers(known, ()))
    app = create_app(vllm_engine, scorers, Settings.model_validate({"model": str(checkpoint)}))
    async with browsing() as browser, running(app) as server, visiting(browser, server.url) as page:
        await page.ask()
        await page.finished()
        for stage in Stage:
            await expect(page.stage(stage.name)).to_have_attribute("data-state", "chosen")
        assert await page.candidates.count() >= 12
        assert page.complaints == []
