"""The page as a user meets it: a real browser, a server on loopback, the fake engine."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.async_api import Route, expect

from server.app import create_app
from server.engine.fake import FakeEngine
from server.scorer.fake import FakeScorer
from server.settings import Settings
from server.stored import read_search
from swires.errors import EngineError
from swires.policies import POLICIES
from swires.protocols import Chunk, Scores
from swires.stages import Stage
from swires.types import Problem, Sampling, Trajectory
from tests.server.client import Held
from tests.server.conftest import Started
from tests.server.web.browser import PHONE, Playground
from tests.server.web.conftest import Opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = '<img src="x" onerror="document.title = 1">'


class HardToPlease(FakeScorer):
    """Finds the first `refused` reasonings bad, all others good, the later the better."""

    def __init__(self, refused: int) -> None:
        self._refused = refused
        self._read = 0

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        return Scores(tuple(map(self._score, trajectories)))

    def _score(self, trajectory: Trajectory) -> float:
        self._read += trajectory.last.stage is Stage.REASONING
        return self._read / 10 + (1 if self._read > self._refused else -2)


class NeverTheSame(FakeEngine):
    """Goes on otherwise each time that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self._seeds = count(step=1000)

    def generate(self, *args: Any, sampling: Sampling, **options: Any) -> AsyncGenerator[Chunk, None]:
        return super().generate(*args, sampling=replace(sampling, seed=next(self._seeds)), **options)


@asynccontextmanager
async def retracing(times: int) -> AsyncIterator[FastAPI]:
    """The app of a search that goes back so often before it is pleased."""
    scorers = {"fake": HardToPlease(refused=4 * times)}
    async with NeverTheSame() as engine:
        yield create_app(engine, scorers, Settings.model_validate({"model": "demo"}))


def hostile(engine: FakeEngine) -> FakeEngine:
    """Writes HTML where it would write a number."""
    decode = engine.decode
    engine.decode = lambda ids: re.sub(r"(?<=<CONCLUSION>)\d", HOSTILE, decode(ids))  # type: ignore[method-assign]
    return engine


async def test_a_first_search_by_mouse_alone(opened: Opened) -> None:
    async with opened() as page:
        await page.ask(preset="Fast")
        await page.finished()
        for stage in Stage:
            await expect(page.stage(stage.name)).to_have_attribute("data-state", "chosen")
            await expect(page.stage(stage.name).locator(".text")).not_to_be_empty()
        assert await page.candidates.count() == 6
        await expect(page.standing("chosen")).to_have_count(4)
        answer = await page.stage("CONCLUSION").locator(".text").inner_text()
        await expect(page.status).to_have_text(f"Answer: {answer}")
        facts = await page.answer.locator(".facts").inner_text()
        assert re.search(r"Time\s+\d.*s\s+Candidates\s+6\s+In the answer\s+\d+ tokens\s+Discarded\s+\d+ tokens", facts)
        assert page.complaints == []


async def test_the_tree_holds_every_candidate_of_every_policy(opened: Opened) -> None:
    async with opened() as page:
        for policy in POLICIES:
            await page.ask(policy=policy)
            await page.finished()
            summary = await summary_of(page)
            assert summary["policy"] == policy
            assert await page.candidates.count() == summary["generations"] == len(summary["trace"])
            chosen = [node for node in summary["trace"] if node["fate"] == "chosen"]
            assert await page.standing("chosen").count() == len(chosen)
            for part in summary["stages"]:
                assert await page.stage(part["stage"]).locator(".text").text_content() == part["text"]


async def summary_of(page: Playground) -> dict[str, Any]:
    """What the server said last, as the page shares it."""
    async with page.page.expect_download() as download:
        await page.button("Share").click()
    stored: dict[str, Any] = json.loads((await (await download.value).path()).read_text())
    return stored["swires"]  # type: ignore[no-any-return]


async def test_a_candidate_is_read_by_mouse_and_by_keyboard(opened: Opened) -> None:
    async with opened() as page:
        await page.ask(preset="Fast")
        await page.finished()
        reader = page.page.get_by_role("article", name="Candidate")
        await expect(reader).to_be_hidden()
        await page.candidates.first.click()
        await expect(reader).to_contain_text("Summary 1 of 1")
        await expect(reader).to_contain_text("Then I will count.")
        await page.page.keyboard.press("ArrowRight")
        await expect(reader).to_contain_text("Caption 1 of 2")
        await page.page.keyboard.press("ArrowDown")
        await expect(reader).to_contain_text("Caption 2 of 2")
        await expect(page.page.locator("[role=treeitem]:focus")).to_have_attribute("aria-selected", "true")
        await page.page.keyboard.press("ArrowLeft")
        await expect(reader).to_contain_text("Summary 1 of 1")
        await page.page.keyboard.press("Escape")
        await expect(reader).to_be_hidden()


async def test_a_whole_search_by_keyboard_alone(opened: Opened) -> None:
    async with opened() as page:
        for _ in range(4):
            await page.page.keyboard.press("Tab")
        await expect(page.button("Use the sample")).to_be_focused()
        await page.page.keyboard.press("Enter")
        await expect(page.button("Search")).to_be_focused()
        await page.page.keyboard.press("Shift+Tab")
        await page.page.keyboard.press("Enter")
        await page.finished()


async def test_a_retrace(opened: Opened) -> None:
    async with retracing(2) as app, opened(app) as page:
        await page.ask()
        await page.finished()
        assert await page.page.locator(".turns p").all_inner_texts() == ["retrace 1", "retrace 2"]
        await expect(page.standing("retraced")).to_have_count(16)
        await expect(page.stage("CAPTION").locator(".meta")).to_contain_text("retraced 2 times")
        await expect(page.answer.locator(".facts")).to_contain_text("28, 2 retraces")
        assert await page.candidates.count() == 28


async def test_while_it_searches(opened: Opened, serving: Started) -> None:
    """Held within the captions: the summary is certain, what is awaited has its places."""
    held = Held(free=70)
    async with serving(FakeEngine(step=held)) as app, opened(app) as page:
        held.arm()
        await page.ask()
        await held.reached.wait()
        await expect(page.status).to_have_text("Caption, 4 candidates")
        await expect(page.stage("SUMMARY")).to_have_attribute("data-state", "chosen")
        await expect(page.stage("CAPTION")).to_have_attribute("data-state", "searching")
        await expect(page.standing("growing")).to_have_count(4)
        await expect(page.button("Share")).to_be_disabled()
        held.let_go.set()
        await page.finished()


async def test_a_stop_frees_the_engine(opened: Opened, serving: Started) -> None:
    held = Held(free=70)
    async with serving(FakeEngine(step=held)) as app, opened(app) as page:
        held.arm()
        await page.ask()
        await held.reached.wait()
        await page.button("Stop").click()
        async with asyncio.timeout(1):
            await held.cancelled.wait()
        await expect(page.status).to_have_text("Stopped")
        await expect(page.problem).to_be_hidden()
        await expect(page.standing("cut")).to_have_count(4)
        await expect(page.stage("SUMMARY").locator(".text")).to_contain_text("I will look for")
        await expect(page.button("Search")).to_be_focused()


@pytest.mark.parametrize(
    ("settings", "message", "field"),
    [
        ({"max_generations": 3}, "The policy swires takes at least 12 generations", None),
        ({"max_image_pixels": 16}, "An image may have at most 16 pixels", "well"),
    ],
)
async def test_a_refusal_is_told_where_it_belongs(
    opened: Opened, serving: Started, settings: dict[str, int], message: str, field: str | None
) -> None:
    async with serving(**settings) as app, opened(app) as page:
        await page.ask()
        await expect(page.problem).to_have_text(re.compile(f"^{message}"))
        await expect(page.button("Search")).to_be_visible()
        assert await page.candidates.count() == 0
        invalid = page.page.locator("[aria-invalid]")
        assert [await each.get_attribute("id") for each in await invalid.all()] == ([field] if field else [])


async def test_a_server_that_drains_says_when_to_try_again(opened: Opened, serving: Started) -> None:
    async with serving() as app, opened(app) as page:
        await app.state.service.scheduler.drain()
        await page.ask()
        await expect(page.problem).to_have_text(re.compile(r"Try again in \d+ s\.$"))


async def test_a_search_that_fails_half_way_keeps_what_has_come(opened: Opened, serving: Started) -> None:
    steps = iter(range(70))

    async def fail_later() -> None:
        if next(steps, None) is None:
            raise EngineError("worker 3 at 10.0.0.7 died")

    engine = FakeEngine()
    async with serving(engine) as app, opened(app) as page:
        engine._step = fail_later
        await page.ask()
        await expect(page.problem).to_have_text("The search failed: the engine failed on this request.")
        await expect(page.status).to_have_text("Broken off")
        await expect(page.stage("SUMMARY").locator(".text")).to_contain_text("I will look for")
        await expect(page.standing("cut")).to_have_count(4)


async def test_a_stream_that_breaks_off(opened: Opened) -> None:
    async def cut(route: Route) -> None:
        whole = await (await route.fetch()).text()
        await route.fulfill(body=whole[: len(whole) // 2], content_type="text/event-stream")

    async with opened() as page:
        await page.page.route("**/v1/chat/completions", cut)
        await page.ask()
        await expect(page.problem).to_have_text("The connection broke off before the search was over.")
        await expect(page.stage("SUMMARY")).to_have_attribute("data-state", "chosen")


async def test_no_connection(opened: Opened) -> None:
    async with opened() as page:
        await page.button("Use the sample").click()
        await page.page.context.set_offline(True)
        await page.button("Search").click()
        await expect(page.problem).to_have_text("This device is offline.")
        await page.page.context.set_offline(False)
        await page.page.route("**/v1/chat/completions", lambda route: route.abort())
        await page.button("Search").click()
        await expect(page.problem).to_have_text("The server cannot be reached. Is it still running?")


async def test_a_key_is_asked_for_and_kept_in_memory(opened: Opened) -> None:
    async def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            await route.continue_()
        else:
            error = {"message": "no valid API key", "type": "invalid_request_error", "param": None, "code": None}
            await route.fulfill(status=401, json={"error": error})

    async with opened() as page:
        key = page.page.get_by_label("API key")
        await expect(key).to_be_hidden()
        await page.page.route("**/v1/**", guard)
        await page.ask()
        await expect(page.problem).to_have_text("No valid API key.")
        await page.page.reload()
        await expect(key).to_be_focused()
        await key.fill("secret")
        await page.ask()
        await page.finished()
        assert await page.run("return [localStorage.length, sessionStorage.length, document.cookie];") == [0, 0, ""]
        assert "secret" not in json.dumps(await summary_of(page))


async def test_greedy_side_by_side(opened: Opened) -> None:
    async with opened() as page:
        await page.page.get_by_label("Compare with greedy").check()
        await page.ask()
        await page.finished()
        answers = page.page.locator(".answer")
        assert await answers.locator("h2").all_inner_texts() == ["SWIRES, balanced", "Greedy"]
        for answer in await answers.all():
            await expect(answer.locator("[data-stage=CONCLUSION]")).to_have_attribute("data-state", "chosen")
        left, right = [await answer.bounding_box() for answer in await answers.all()]
        assert left
        assert right
        assert left["x"] + left["width"] < right["x"]


async def test_a_shared_search_is_seen_again_as_it_was(opened: Opened, tmp_path: Path) -> None:
    async with retracing(2) as app, opened(app) as page:
        await page.page.get_by_label("Compare with greedy").check()
        await page.ask()
        await page.finished()
        async with page.page.expect_download() as download:
            await page.button("Share").click()
        await (await download.value).save_as(tmp_path / "search.json")
        before = await seen(page)
        await page.page.reload()
        assert await page.candidates.count() == 0
        await page.page.get_by_label("A shared search").set_input_files(tmp_path / "search.json")
        await expect(page.candidates).to_have_count(28)
        assert await seen(page) == before
        assert page.complaints == []
        await page.button("Search").click()
        await page.finished()
    assert len(read_search(tmp_path / "search.json").nodes()) == 28


async def seen(page: Playground) -> list[str]:
    """All that the page tells, the names of the candidates too."""
    names = [await each.get_attribute("aria-label") or "" for each in await page.candidates.all()]
    question = await page.page.get_by_label("Question", exact=True).input_value()
    return [question, *names, *await page.page.locator(".answer, #status, .turns").all_inner_texts()]


async def test_what_a_model_or_a_file_says_is_only_text(opened: Opened, serving: Started, tmp_path: Path) -> None:
    async with serving(hostile(FakeEngine())) as app, opened(app) as page:
        await page.ask()
        await page.finished()
        await expect(page.stage("CONCLUSION").locator(".text")).to_have_text(HOSTILE)
        async with page.page.expect_download() as download:
            await page.button("Share").click()
        await (await download.value).save_as(tmp_path / "search.json")
        await page.page.get_by_label("A shared search").set_input_files(tmp_path / "search.json")
        await page.candidates.last.click()
        await expect(page.page.locator("main img")).to_have_count(1)
        assert await page.page.title() == "swires playground"


async def test_a_file_that_is_not_sound_is_refused(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"playground": 1, "question": "?", "image": "https://example.com/a.png"}')
    async with opened() as page:
        await page.page.get_by_label("A shared search").set_input_files(tmp_path / "file.json")
        await expect(page.problem).to_have_text("file.json cannot be opened: image.")


DROP = """
const transfer = new DataTransfer();
const bytes = Uint8Array.from(argument.bytes);
transfer.items.add(new File([bytes], argument.name, { type: argument.type }));
const [kind, key] = argument.paste ? [ClipboardEvent, "clipboardData"] : [DragEvent, "dataTransfer"];
const name = argument.paste ? "paste" : "drop";
document.body.dispatchEvent(new kind(name, { [key]: transfer, bubbles: true, cancelable: true }));
"""


@pytest.mark.parametrize("paste", [False, True])
async def test_a_picture_is_dropped_or_pasted(opened: Opened, paste: bool) -> None:
    picture = (Path(__file__).parents[3] / "server" / "web" / "sample.png").read_bytes()
    async with opened() as page:
        await page.run(DROP, {"bytes": list(picture), "name": "a.png", "type": "image/png", "paste": paste})
        await expect(page.page.locator("#preview")).to_be_visible()
        await page.page.get_by_label("Question", exact=True).fill("How many?")
        await page.page.keyboard.press("Enter")
        await page.finished()


async def test_what_is_no_picture_is_told(opened: Opened) -> None:
    async with opened() as page:
        await page.run(DROP, {"bytes": [1, 2, 3], "name": "a.png", "type": "image/png", "paste": False})
        await expect(page.problem).to_have_text("a.png is not an image that this browser can show.")
        await page.button("Search").click()
        await expect(page.problem).to_contain_text("There is no picture yet")


async def test_360_pixels_are_enough(opened: Opened) -> None:
    async with retracing(2) as app, opened(app, viewport=PHONE) as page:
        await page.page.get_by_label("Compare with greedy").check()
        await page.ask()
        await page.finished()
        await expect(page.stage("SUMMARY")).to_be_in_viewport(ratio=1)
        await page.candidates.nth(5).click()
        assert await page.run("return document.documentElement.scrollWidth;") == 360
        frame = page.page.locator("#tree-frame")
        assert await frame.evaluate("(frame) => frame.scrollWidth <= frame.clientWidth")


async def test_light_and_dark(opened: Opened) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor;"
    async with opened(color_scheme="dark") as page:
        dark = await page.run(paper)
        await page.button("Light").click()
        assert (light := await page.run(paper)) != dark
    async with opened(color_scheme="light") as page:
        assert await page.run(paper) == light
        await page.button("Dark").click()
        assert await page.run(paper) == dark


async def test_nothing_moves_for_those_who_do_not_want_it(opened: Opened, serving: Started) -> None:
    held = Held(free=70)
    async with serving(FakeEngine(step=held)) as app, opened(app, reduced_motion="reduce") as page:
        held.arm()
        await page.ask()
        await held.reached.wait()
        await expect(page.standing("growing")).to_have_count(4)
        assert await page.run("return document.getAnimations().length;") == 0
        await page.button("Stop").click()


async def test_everything_has_a_name(opened: Opened) -> None:
    async with opened() as page:
        await page.ask()
        await page.finished()
        for each in await page.page.locator("button, input, select, textarea, [role]").all():
            named = await each.evaluate(
                "(e) => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length "
                "|| e.textContent.trim() || ['status', 'alert'].includes(e.getAttribute('role'))"
            )
            assert named, await each.evaluate("(e) => e.outerHTML")
