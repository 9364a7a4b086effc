"""Takes the pictures of the page again, from a running server: `python -m tests.server.web.screenshots URL FOLDER`.

The question is the first of the demo checkpoint's on which the search goes back once or twice and is right.
"""

import argparse
import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.async_api import Browser, FilePayload, Route

from tests.server.web.browser import PHONE, Playground, browsing, visiting

QUESTIONS = Path(__file__).parents[3] / "training" / "checkpoints" / "demo" / "questions.jsonl"
SEED = 1
START_S = 300
WINDOW = {"width": 1360, "height": 1000}
SLOW = {"offline": False, "latency": 0, "uploadThroughput": -1, "downloadThroughput": 8_000}

Question = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the page.")
    parser.add_argument("url", help="a server with the demo checkpoint, which may still be starting")
    parser.add_argument("folder", type=Path, help="where the pictures are put")
    arguments = parser.parse_args()
    for name, picture in asyncio.run(pictures(arguments.url)).items():
        image = Image.open(BytesIO(picture)).convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE)
        image.save(arguments.folder / f"playground-{name}.png", optimize=True)


async def pictures(url: str) -> dict[str, bytes]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await ready(client)
        question = await that_retraces(client)
    async with browsing() as browser:
        return {
            "light": await of_an_answer(browser, url, question),
            "tree": await of_the_tree(browser, url, question),
            "dark": await of_a_comparison(browser, url, question),
            "searching": await of_a_search(browser, url, question),
            "narrow": await of_an_answer(browser, url, question, viewport=PHONE),
        }


async def ready(client: httpx.AsyncClient) -> None:
    for _ in range(START_S):
        if await answers(client):
            return
        await asyncio.sleep(1)
    raise SystemExit("the server does not answer")


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/ready")).is_success
    except httpx.TransportError:
        return False


async def that_retraces(client: httpx.AsyncClient) -> Question:
    model = (await client.get("/v1/models")).json()["data"][0]["id"]
    for question in map(json.loads, QUESTIONS.open()):
        parts = [
            {"type": "image_url", "image_url": {"url": question["image"]}},
            {"type": "text", "text": question["question"]},
        ]
        messages = [{"role": "user", "content": parts}]
        body = {"model": model, "messages": messages, "seed": SEED, "swires": {"preset": "thorough"}}
        answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
        is_right = answer["choices"][0]["message"]["content"] == question["answer"]
        if is_right and answer["swires"]["accepted"] and answer["swires"]["retraces"] in (1, 2):
            return dict(question)
    raise SystemExit("no search goes back once or twice and is right")


async def of_an_answer(browser: Browser, url: str, question: Question, **options: Any) -> bytes:
    async with asking(browser, url, question, **options) as page:
        await page.button("Search").click()
        await page.finished()
        await page.page.get_by_role("treeitem", name=re.compile("Reasoning .* retraced")).first.click()
        return await page.page.screenshot()


async def of_the_tree(browser: Browser, url: str, question: Question) -> bytes:
    async with asking(browser, url, question) as page:
        await page.button("Search").click()
        await page.finished()
        return await page.page.get_by_role("region", name="Candidates").screenshot()


async def of_a_comparison(browser: Browser, url: str, question: Question) -> bytes:
    async with asking(browser, url, question, color_scheme="dark") as page:
        await page.page.get_by_label("Compare with greedy").check()
        await page.button("Search").click()
        await page.finished()
        await page.standing("chosen").last.click()
        await page.run("scrollTo(0, 0);")
        return await page.page.screenshot(full_page=True)


async def of_a_search(browser: Browser, url: str, question: Question) -> bytes:
    async with asking(browser, url, question) as page:
        network = await page.page.context.new_cdp_session(page.page)
        await network.send("Network.emulateNetworkConditions", SLOW)  # the search is over in no time else
        await page.button("Search").click()
        await page.stage("REASONING").filter(has_text=re.compile(r"retraced once · [1-9] of ")).wait_for()
        return await page.page.screenshot()


@asynccontextmanager
async def asking(browser: Browser, url: str, question: Question, **options: Any) -> AsyncGenerator[Playground, None]:
    """The page with everything filled in; its searches are repeatable."""

    async def seeded(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        await route.continue_(post_data=json.dumps({**body, "seed": SEED}))

    image = base64.b64decode(question["image"].partition(",")[2])
    file = FilePayload(name="picture.png", mimeType="image/png", buffer=image)
    async with visiting(browser, url, **{"viewport": WINDOW, "reduced_motion": "reduce", **options}) as page:
        await page.page.route("**/v1/chat/completions", seeded)
        await page.page.get_by_label("Picture", exact=True).set_input_files(file)
        await page.page.get_by_label("Question", exact=True).fill(question["question"])
        await page.page.get_by_text("Thorough", exact=True).click()
        yield page


if __name__ == "__main__":
    main()
