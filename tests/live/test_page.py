"""The page in a real browser: what people see of a gateway that lives, dies, comes back, or does not let them in."""

import asyncio
import os
import re
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs the extra [dev]: pip install -e '.[dev]'")

from playwright.async_api import Page, expect

from gateway.access.keys import hash_key
from tests.dashboard.browser import Tab, chromium, tab
from tests.line.world import BAD, CONFIG, GOOD, World, asks, hello, says, world
from tests.ports import free_port
from tests.serving import serving
from tests.workers.test_page import TEXT, connections, mix
from tests.workers.test_serve import SLOW, instance

pytestmark = pytest.mark.live("chromium")

ADMIN = "weir-admin-key"
KEYS = f'access: {{keys: [{{name: boss, hash: "{hash_key(ADMIN)}", admin: true}}]}}'
LARGEST = 200_000


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def visit(open_tab: Tab, lines: World) -> Page:
    await open_tab.page.goto(f"{lines.served.url}/ui")
    return open_tab.page


def test_an_empty_page_says_so_and_fills_by_itself(tmp_path: Path) -> None:
    """Before the first request: how to send one. Then numbers, decisions and the flow, without a reload and without an error."""

    async def go() -> None:
        async with chromium() as browser, world(tmp_path, says(GOOD), says(GOOD)) as lines, tab(browser) as open_tab:
            page = await visit(open_tab, lines)
            await expect(page.locator("#empty")).to_be_visible()
            await expect(page.locator("#try")).to_contain_text(lines.served.url)
            await expect(page.locator("#board")).to_be_hidden()
            await expect(page.locator("#backends tbody tr")).to_have_count(3)
            await lines.served.chat(asks())
            await expect(page.locator("#empty")).to_be_hidden()
            await expect(page.locator("#last tbody tr")).to_have_count(1)
            await expect(page.locator("#tiles > div").first).to_contain_text("0 %")
            lines.small.handler = says(BAD)
            await lines.served.chat(asks())
            await lines.served.chat(hello())
            await expect(page.locator("#last tbody tr")).to_have_count(3)
            await expect(page.locator("#tiles > div").first).to_contain_text("66.7 %")
            await expect(page.locator("#flow svg")).to_have_attribute(
                "aria-label",
                "Of 3 answered requests small models answered 33.3 %; "
                "33.3 % spilled to a large model after a small one was asked, and 33.3 % went straight to it.",
            )
            await expect(page.locator("#reasons tbody")).to_contain_text("schema")
            await expect(page.locator("#routes tbody tr", has_text="labels")).to_contain_text("50.0 %")
            assert open_tab.errors == []

    run(go())


def test_a_decision_opens_with_its_why(tmp_path: Path) -> None:
    """By keyboard: attempts with verdicts, what would have changed it; Escape closes, and focus is back where it was. What a caller
    wrote is text, never markup."""

    async def go() -> None:
        async with chromium() as browser, world(tmp_path, says(BAD), says(GOOD)) as lines, tab(browser) as open_tab:
            page = await visit(open_tab, lines)
            await lines.served.chat({**asks(), "model": "gpt-<img src=x onerror=alert(1)>"})
            button = page.locator("#last button").first
            await button.focus()
            await page.keyboard.press("Enter")
            story = page.locator("#story")
            await expect(story.locator("h2")).to_have_text("A small model was asked, and cloud answered")
            await expect(story.locator("#attempts tbody tr").first).to_contain_text("✗ fits_schema")
            await expect(story.locator(".turn")).to_contain_text("an answer that fits the schema")
            await expect(story.locator(".facts")).to_contain_text("<img src=x")
            assert await story.locator("img").count() == 0
            await page.keyboard.press("Escape")
            await expect(story).to_be_hidden()
            await expect(button).to_be_focused()
            await expect(page).not_to_have_url(re.compile("decision"))
            assert open_tab.errors == []

    run(go())


def test_the_page_outlives_its_gateway(tmp_path: Path) -> None:
    """Stopped: it says so, keeps what it had, and asks again. Started anew at the same place: live, and counting anew."""

    async def go() -> None:
        config = CONFIG.format(
            small="http://127.0.0.1:1",
            cloud="http://127.0.0.1:1",
            routes="",
            server="",
            more="",
            deadline="45",
            backends="",
        )
        port = free_port()
        async with chromium() as browser, tab(browser) as open_tab:
            page = open_tab.page
            async with serving(config, tmp_path, port=port) as served:
                await page.goto(f"{served.url}/ui")
                await served.chat(hello())
                await expect(page.locator("#last tbody tr")).to_have_count(1)
            await expect(page.locator("#notice")).to_contain_text("The gateway does not answer. Trying again.")
            await expect(page.locator("#link")).to_have_text("not connected")
            await expect(page.locator("#last tbody tr")).to_have_count(1)
            async with serving(config, tmp_path, port=port) as served:
                await expect(page.locator("#link")).to_contain_text("live")
                await expect(page.locator("#notice")).to_be_hidden()
                await expect(page.locator("#empty")).to_be_visible()
                await served.chat(hello())
                await expect(page.locator("#last tbody tr")).to_have_count(1)
            assert all("Failed to load resource" in error for error in open_tab.errors)

    run(go())


def test_a_key_is_asked_for_and_kept_for_this_tab_only(tmp_path: Path) -> None:
    """No key: it asks. A wrong one: it says why. The right one: the numbers; kept over a reload, in no address, in no other tab."""

    async def go() -> None:
        async with (
            chromium() as browser,
            world(tmp_path, says(GOOD), says(GOOD), more=KEYS) as lines,
            tab(browser) as open_tab,
        ):
            page = await visit(open_tab, lines)
            await expect(page.locator("#door")).to_be_visible()
            await expect(page.locator("#key")).to_be_focused()
            await page.keyboard.type("weir-wrong")
            await page.keyboard.press("Enter")
            await expect(page.locator("#door-why")).to_contain_text("Incorrect API key")
            await expect(page.locator("#link")).to_have_text("key refused")
            await page.locator("#key").fill(ADMIN)
            await page.locator("#key-form button").click()
            await expect(page.locator("#link")).to_have_text("live")
            await expect(page.locator("#door")).to_be_hidden()
            await page.reload()
            await expect(page.locator("#link")).to_have_text("live")
            assert not any(ADMIN in url for url in open_tab.asked)
            other = await page.context.new_page()
            await other.goto(f"{lines.served.url}/ui")
            await expect(other.locator("#door")).to_be_visible()
            await page.locator("#forget").click()
            await expect(page.locator("#door")).to_be_visible()
            assert all("401" in error for error in open_tab.errors)

    run(go())


def test_the_page_is_light_and_keeps_to_itself(tmp_path: Path) -> None:
    """Below 200 kB, painted, no request to another host, nothing on the console; figures as `benchmarks.observe` reads them."""

    async def go() -> None:
        from benchmarks._page import measure

        async with world(tmp_path, says(GOOD), says(GOOD)) as lines:
            await lines.served.chat(asks())
            found = await measure(lines.served.url)
            assert 10_000 < found["page.bytes"] < LARGEST
            assert found["page.first_paint_ms"] > 0
            assert found["page.console_errors"] == 0
            assert found["page.foreign_requests"] == 0

    run(go())


@pytest.mark.parametrize(("width", "height"), [(1366, 900), (390, 844)])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width: int, height: int) -> None:
    """On a laptop and on a phone only tables scroll sideways, never the page."""

    async def go() -> None:
        async with (
            chromium() as browser,
            world(tmp_path, says(BAD), says(GOOD)) as lines,
            tab(browser, viewport={"width": width, "height": height}) as open_tab,
        ):
            await lines.served.chat(asks())
            page = await visit(open_tab, lines)
            await expect(page.locator("#flow svg")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await page.locator("#last button").first.click()
            await expect(page.locator("#attempts")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width

    run(go())


def test_light_and_dark_follow_the_reader(tmp_path: Path) -> None:
    """The system's choice counts until the button says otherwise; that is kept. Text stands out from its ground by 4.5 to 1 in both."""

    async def go() -> None:
        async with (
            chromium() as browser,
            world(tmp_path, says(GOOD), says(GOOD)) as lines,
            tab(browser, color_scheme="dark") as open_tab,
        ):
            await lines.served.chat(asks())
            page = await visit(open_tab, lines)
            await expect(page.locator("#flow svg")).to_be_visible()
            dark = await colours(page)
            await page.locator("#theme").click()
            await expect(page.locator("#theme")).to_have_text("Theme: light")
            await page.reload()
            await expect(page.locator("#theme")).to_have_text("Theme: light")
            light = await colours(page)
            assert brightness(dark["ground"]) < brightness(dark["ink"])
            assert brightness(light["ground"]) > brightness(light["ink"])
            for seen in (dark, light):
                for text in ("ink", "quiet"):
                    for ground in ("ground", "panel"):
                        assert contrast(seen[text], seen[ground]) >= 4.5

    run(go())


def test_it_reads_without_eyes(tmp_path: Path) -> None:
    """Landmarks, one heading of the first rank, every table's columns named, every picture with words, every control with a name."""

    async def go() -> None:
        async with chromium() as browser, world(tmp_path, says(BAD), says(GOOD)) as lines, tab(browser) as open_tab:
            await lines.served.chat(asks())
            page = await visit(open_tab, lines)
            await expect(page.locator("#flow svg")).to_be_visible()
            assert await page.locator("h1").count() == 1
            assert await page.get_by_role("main").count() == 1
            assert await page.get_by_role("banner").count() == 1
            assert await page.get_by_role("status").count() == 1
            for name in ("Routes last 15 minutes", "Last decisions open one to see why", "Backends"):
                assert await page.get_by_role("region", name=name, exact=True).count() >= 1, name
            assert await page.get_by_role("columnheader", name="Escalated").count() == 1
            assert await page.get_by_role("rowheader", name="labels").count() == 1
            for picture in await page.get_by_role("img").all():
                assert await picture.get_attribute("aria-label") or await picture.get_attribute("alt") is not None
            for button in await page.get_by_role("button").all():
                assert (await button.inner_text()).strip() or await button.get_attribute("aria-label")

    run(go())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.timeout(240)
def test_a_worker_that_dies_takes_nothing_off_the_page(tmp_path: Path) -> None:
    """Each of two is killed in turn, so the one that feeds the page too: it is live again by itself, with everything that was there, and
    opens a decision of the dead."""

    async def go() -> None:
        wait = SLOW * 1000
        async with chromium() as browser, instance(tmp_path, 2, text=TEXT) as weir, tab(browser) as open_tab:
            page = open_tab.page
            async with connections(weir) as workers:
                asked = [id for client in workers.values() for id in await mix(client, 1)]
                await page.goto(f"{weir.client.base_url}/ui")
                await expect(page.locator("#last tbody tr")).to_have_count(8, timeout=wait)
            for killed, process in enumerate(workers, 1):
                os.kill(process, signal.SIGKILL)
                await weir.told("worker_died", killed)
                async with connections(weir) as living:
                    asked += await mix(next(iter(living.values())), 1)
                await expect(page.locator("#last tbody tr")).to_have_count(8 + 4 * killed, timeout=wait)
                await expect(page.locator("#link")).to_have_attribute("data-state", "live", timeout=wait)
                await expect(page.locator("#who")).to_contain_text("2 workers", timeout=wait)
            ids = [await one.get_attribute("data-id") for one in await page.locator("#last button").all()]
            assert ids == asked[::-1]
            await page.locator("#last button").last.click()
            await expect(page.locator("#story pre")).to_contain_text(asked[0], timeout=wait)

    run(go())


async def colours(page: Page) -> dict[str, tuple[float, ...]]:
    """The colours in use, as (red, green, blue) of 0 to 255."""
    parts = {
        "ground": ("body", "backgroundColor"),
        "panel": (".panel", "backgroundColor"),
        "ink": ("body", "color"),
        "quiet": ("#who", "color"),
    }
    found = {}
    for name, (where, what) in parts.items():
        told = await page.evaluate(
            "([where, what]) => getComputedStyle(document.querySelector(where))[what]", [where, what]
        )
        found[name] = tuple(float(part) for part in told.removeprefix("rgb(").removesuffix(")").split(","))
    return found


def brightness(colour: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)
