"""The page in a real browser. Its tests share one browser, and so the loop of their module."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio
from fastapi import FastAPI
from playwright.async_api import Browser

from tests.server.conftest import Started
from tests.server.running import running
from tests.server.web.browser import Playground, browsing, visiting

Opened = Callable[..., AbstractAsyncContextManager[Playground]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, serving: Started) -> Opened:
    """Opens the page of an app, of one over the fake engine where none is given, with any options of the visit."""

    @asynccontextmanager
    async def open_page(app: FastAPI | None = None, **options: object) -> AsyncIterator[Playground]:
        if app is None:
            async with serving() as made, open_page(made, **options) as page:
                yield page
        else:
            async with running(app) as server, visiting(browser, server.url, **options) as page:
                yield page

    return open_page
