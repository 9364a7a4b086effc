"""Chromium, and the page in it as a user sees it."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright

from deploy.install import BROWSERS

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 10_000
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}


@asynccontextmanager
async def browsing() -> AsyncGenerator[Browser, None]:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("there is no browser; install chromium (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Playground:
    """What a user finds on the page, by the names that a screen reader tells; `complaints` are the browser's own."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def candidates(self) -> Locator:
        return self.page.get_by_role("treeitem")

    def standing(self, standing: str) -> Locator:
        return self.page.locator(f"[role=treeitem][data-standing={standing}]")

    @property
    def answer(self) -> Locator:
        return self.page.locator(".answer").first

    def stage(self, stage: str) -> Locator:
        return self.answer.locator(f"[data-stage={stage}]")

    @property
    def status(self) -> Locator:
        return self.page.get_by_role("status")

    @property
    def problem(self) -> Locator:
        return self.page.get_by_role("alert")

    async def ask(self, *, preset: str | None = None, policy: str | None = None) -> None:
        await self.button("Use the sample").click()
        if policy:
            await self.page.get_by_label("Policy", exact=True).select_option(policy)
        if preset:
            await self.page.get_by_text(preset, exact=True).click()
        await self.button("Search").click()

    async def finished(self) -> None:
        await self.status.filter(has_text="Answer: ").wait_for()  # sooner than `expect`, which looks now and then
        await self.button("Search").wait_for()

    async def run(self, script: str, argument: object = None) -> Any:
        """What the body of an async function returns; it may import the page's modules."""
        return await self.page.evaluate(f"async (argument) => {{ {script} }}", argument)


@asynccontextmanager
async def visiting(browser: Browser, url: str, **options: Any) -> AsyncGenerator[Playground, None]:
    """The page in a fresh profile."""
    context = await browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        playground = Playground(await context.new_page())

        def hear(message: ConsoleMessage) -> None:
            if message.type == "error":
                playground.complaints.append(message.text)

        playground.page.on("console", hear)
        playground.page.on("pageerror", lambda error: playground.complaints.append(str(error)))
        await playground.page.goto(url)
        await playground.page.locator("#policy option").first.wait_for(state="attached")
        yield playground
    finally:
        await context.close()
