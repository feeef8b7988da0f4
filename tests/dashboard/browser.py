"""Debian's chromium, driven by Playwright: no browser is downloaded."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.waiting import PATIENCE

expect.set_options(timeout=PATIENCE * 1000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    # Chromium's own sandbox does not start for root, which tests in a container often are.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as play:
        browser = await play.chromium.launch(
            executable_path=shutil.which("chromium"), args=flags, timeout=PATIENCE * 1000
        )
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """A page, and what its console and its scripts complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        """Every URL that the page asked for."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@asynccontextmanager
async def tab(browser: Browser, **context: Any) -> AsyncIterator[Tab]:
    """A page of a browser that has never been here."""
    async with await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}) as fresh:
        page = await fresh.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield Tab(page)
