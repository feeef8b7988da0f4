"""The pictures of the page in `docs/img/`: `python -m tests.dashboard.shots [FOLDER]`. Real requests and real answers of the shipped
specialist; the two language models are played."""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.dashboard.browser import chromium, tab
from tests.dashboard.scene import ROOT, scene
from tests.serving import Served

FOLDER = ROOT / "docs" / "img"
LAPTOP: ViewportSize = {"width": 1366, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


async def shots(folder: Path, busy: Path, empty: Path) -> None:
    """busy, empty: two folders for the gateways' state."""
    async with chromium() as browser, scene(busy) as served, scene(empty, quiet=True) as dry:
        await _whole(browser, served, folder / "page-light.png", viewport=LAPTOP, color_scheme="light")
        await _whole(browser, served, folder / "page-dark.png", viewport=LAPTOP, color_scheme="dark")
        await _whole(browser, served, folder / "page-phone.png", viewport=PHONE, color_scheme="light")
        await _decision(browser, served, folder / "page-decision.png")
        await _empty(browser, dry, folder / "page-empty.png")


async def ready(page: Page) -> None:
    """Everything is drawn."""
    await expect(page.locator("#link")).to_have_text("live")
    await expect(page.locator("#flow svg")).to_be_visible()
    await expect(page.locator("#last tbody tr").first).to_be_visible()
    await expect(page.locator("#curves svg").first).to_be_visible()


async def _whole(browser: Browser, served: Served, path: Path, **context: object) -> None:
    async with tab(browser, **context) as open_tab:
        await open_tab.page.goto(f"{served.url}/ui")
        await ready(open_tab.page)
        await open_tab.page.screenshot(path=path, full_page=True)


async def _decision(browser: Browser, served: Served, path: Path) -> None:
    wanted = next(record.id for record in served.app.recorder.recent(500) if record.escalation == "low_confidence")
    async with tab(browser, viewport=LAPTOP, color_scheme="light") as open_tab:
        await open_tab.page.goto(f"{served.url}/ui#decision={wanted}")
        await expect(open_tab.page.locator("#attempts")).to_be_visible()
        await open_tab.page.screenshot(path=path)


async def _empty(browser: Browser, served: Served, path: Path) -> None:
    async with tab(browser, viewport=LAPTOP, color_scheme="light") as open_tab:
        await open_tab.page.goto(f"{served.url}/ui")
        await expect(open_tab.page.locator("#empty")).to_be_visible()
        await open_tab.page.screenshot(path=path)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as busy, tempfile.TemporaryDirectory() as empty:
        asyncio.run(shots(folder, Path(busy), Path(empty)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
