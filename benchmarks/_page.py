"""Figures of the page at `/ui` in a real chromium, for `benchmarks.observe`: `await measure("http://127.0.0.1:8080")`."""

import json
import os
import shutil
from collections.abc import Mapping

FIRST_FRAME = 10_000
"""Milliseconds that the page may take to show its first state."""


class NoBrowser(Exception):
    """Chromium or Playwright is not there. The message says how to get it."""


async def measure(url: str, key: str = "") -> Mapping[str, float]:
    """Open the page of the gateway at `url`, which has answered something, as somebody who has never been there.

    page.bytes: all of its files as they went over the wire, without the feed; page.first_paint_ms: from the navigation's start to the first
    contentful paint, as the browser tells it; page.console_errors: errors and warnings on the console, and errors of scripts;
    page.foreign_requests: requests to any other host. Raises NoBrowser.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise NoBrowser("chromium is not on PATH: apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError as exc:
        raise NoBrowser("Playwright is missing: pip install -e '.[dev]'") from exc
    errors: list[str] = []
    asked: list[str] = []
    sizes: list[int] = []
    async with async_playwright() as play:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not start for root
        browser = await play.chromium.launch(executable_path=chromium, args=flags)
        try:
            page = await browser.new_page()
            page.on(
                "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            if key:
                await page.add_init_script(f"sessionStorage.setItem('weir-key', {json.dumps(key)})")
            await page.goto(f"{url}/ui")
            await page.locator("#flow svg").wait_for(timeout=FIRST_FRAME)
            paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            sizes = await page.evaluate(
                "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
                ".filter((entry) => !entry.name.endsWith('/events')).map((entry) => entry.transferSize)"
            )
        finally:
            await browser.close()
    return {
        "page.bytes": float(sum(sizes)),
        "page.first_paint_ms": round(float(paint), 1),
        "page.console_errors": float(len(errors)),
        "page.foreign_requests": float(sum(not address.startswith(f"{url}/") for address in asked)),
    }
