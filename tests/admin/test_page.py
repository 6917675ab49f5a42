"""The live page: what it refers to exists, it needs nothing from elsewhere, and a real browser shows it."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

import sidecar.admin
from sidecar.admin import views
from sidecar.config.load import parse
from sidecar.config.model import CircuitBreaker
from sidecar.demo.provider import DemoProvider
from sidecar.demo.scenario import Scenario
from sidecar.exchange import CacheNote
from tests.support.exchanges import finished
from tests.support.running import ENVIRON, Running, config_for, running

PAGE = Path(sidecar.admin.__file__).with_name("page.html").read_text()
SCRIPT = PAGE.partition("<script>")[2].partition("</script>")[0]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
ASK = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Why is the sea salty?"}]}
BROWSER_S = 60.0


class Page(HTMLParser):
    """Every attribute of the page, by name, and the ids of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: dict[str, list[str]] = {}
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def all(self, name: str) -> list[str]:
        return self.attributes.get(name, [])


@asynccontextmanager
async def traffic(requests: int, **changes: Any) -> AsyncIterator[tuple[Running, DemoProvider]]:
    """A sidecar that has answered so many requests; `changes` are of its configuration."""
    provider = DemoProvider(scenario=Scenario.instant())
    await provider.start()
    try:
        async with running(config_for(provider.url, **changes)) as run, aiohttp.ClientSession() as http:
            for _ in range(requests):
                async with http.post(f"{run.url}/chat/completions", json=ASK) as answer:
                    assert answer.status == 200
                    await answer.read()
            yield run, provider
    finally:
        await provider.stop()


async def rendered(url: str, directory: Path) -> str:
    """The document as Chromium has it after some (virtual) seconds."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={directory}", "--virtual-time-budget=3000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(BROWSER_S):
            document, _ = await browser.communicate()
    except TimeoutError:
        browser.kill()
        await browser.wait()
        pytest.fail(f"chromium gave no document within {BROWSER_S:.0f} s")
    return document.decode()


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = Page()
    assert page.all("src") == []
    assert page.all("href") == ["data:,"]
    assert "://" not in PAGE.replace("`http://${", "")
    assert "@import" not in PAGE and "url(" not in PAGE


def test_nothing_becomes_html_or_code_but_the_page_itself() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", SCRIPT)
    assert not [name for name in Page().attributes if name.startswith("on") or name == "style"]


def test_every_id_of_the_script_exists_once() -> None:
    ids = Page().all("id")
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"(?:\$|copy)\(\"([^\"]+)\"\)", SCRIPT))
    assert used and used == set(ids)


async def test_every_figure_exists_and_has_a_format() -> None:
    page = Page()
    formats = set(re.findall(r"^  (\w+): \(", SCRIPT, re.MULTILINE))
    assert set(page.all("data-as")) <= formats
    async with traffic(0, cache={}) as (run, _):
        assert set(page.all("data-stat")) <= set(views.stats(run.sidecar))
        assert set(page.all("data-info")) <= set(views.server_info(run.sidecar))
        assert set(re.findall(r'stats\["([^"]+)"\]', SCRIPT)) <= set(views.stats(run.sidecar))
        endpoint = views.clusters(run.sidecar)[0]["endpoints"][0]
        assert set(re.findall(r"\bendpoint\.(\w+)", SCRIPT)) <= set(endpoint)


@NEEDS_CHROMIUM
async def test_a_browser_shows_the_traffic(tmp_path: Path) -> None:
    async with traffic(3) as (run, provider):
        document = await rendered(f"{run.admin_url}/", tmp_path)
    assert f"<code>{provider.url}</code>" in document
    assert '<b data-stat="http.requests_total" data-as="count">3</b>' in document
    assert re.search(r'data-stat="http.first_token_p50_ms" data-as="ms">[\d.]+ ms<', document)
    assert '<span id="state-name">LIVE</span>' in document
    assert re.search(r'<section class="card start"[^>]* hidden="">', document)


@NEEDS_CHROMIUM
async def test_without_traffic_it_says_what_to_do(tmp_path: Path) -> None:
    async with traffic(0) as (run, _):
        document = await rendered(f"{run.admin_url}/", tmp_path)
    assert f'point an OpenAI SDK at <code id="start-url">{run.url}</code>' in document
    assert not re.search(r'<section class="card start"[^>]* hidden="">', document)


@NEEDS_CHROMIUM
async def test_an_endpoints_error_is_shown_as_text(tmp_path: Path) -> None:
    async with traffic(1) as (run, _):
        (provider,) = run.sidecar.snapshot.providers.values()
        provider.endpoints[0].observe("<b id=evil>no</b>")
        provider.endpoints[0].breaker.configure(CircuitBreaker(consecutive_failures=1))
        provider.endpoints[0].breaker.record(False, time.monotonic())
        document = await rendered(f"{run.admin_url}/", tmp_path)
    assert "&lt;b id=evil&gt;no&lt;/b&gt;" in document and 'evil"' not in document
    assert '<b class="bad">down</b>' in document


@NEEDS_CHROMIUM
async def test_a_banner_says_that_break_glass_is_on_and_why(tmp_path: Path) -> None:
    async with traffic(0) as (run, provider):
        off = await rendered(f"{run.admin_url}/", tmp_path)
        assert re.search(r'<p [^>]*id="break-glass" hidden=""></p>', off)
        tree = config_for(provider.url)
        tree["providers"]["direct"] = {**tree["providers"]["p"], "break_glass": True}
        run.sidecar.break_glass.configure(parse(orjson.dumps(tree), ENVIRON).config)
        run.sidecar.break_glass.turn_on(1800.0, "<b id=evil>lost</b>", "admin 127.0.0.1")
        on = await rendered(f"{run.admin_url}/", tmp_path)
    banner = re.search(r'<p class="notice bad" id="break-glass">([^<]*)</p>', on)
    assert banner is not None
    assert re.match(r"Break-glass is on for another \d+ min( \d+ s)?, direct may be asked: ", banner[1])
    assert banner[1].endswith("&lt;b id=evil&gt;lost&lt;/b&gt; (admin 127.0.0.1)")


CACHE_SECTION = re.compile(r'<section class="row" id="cache" aria-label="Answer cache"( hidden="")?>')


@NEEDS_CHROMIUM
async def test_without_a_cache_there_is_no_section_for_it(tmp_path: Path) -> None:
    async with traffic(1) as (run, _):
        document = await rendered(f"{run.admin_url}/", tmp_path)
    section = CACHE_SECTION.search(document)
    assert section is not None and section[1]


@NEEDS_CHROMIUM
async def test_the_cache_shows_its_hits_its_savings_and_the_tiers_that_are_off(tmp_path: Path) -> None:
    dear = CacheNote("hit", "exact", b"")
    dear.saved_nano_usd, dear.saved_s = 1_234_560_000_000, 125.0
    async with traffic(4, cache={}) as (run, _):
        run.sidecar.metrics.finished(finished(cache=dear), 10.5)
        assert run.sidecar.tiers is not None
        for _ in range(20):
            run.sidecar.tiers.shadow.note("<b id=evil>r</b>", "exact", False)
        document = await rendered(f"{run.admin_url}/", tmp_path)
    section = CACHE_SECTION.search(document)
    assert section is not None and not section[1]
    assert '<span data-stat="cache.hit_ratio" data-as="share">80.0 %</span>' in document
    assert '<b data-stat="cache.hit_total" data-as="count">4</b>' in document
    assert '<span data-stat="cache.saved_usd_total" data-as="usd">$1,234.56</span>' in document
    assert '<b data-stat="cache.saved_s_total" data-as="duration">2 min 5 s</b>' in document
    assert '<span data-stat="cache.entries" data-as="count">1</span>' in document
    assert (
        '<p class="big bad" id="cache-tile"><span data-stat="cache.tiers_off" data-as="count">1<' in document
    )
    assert '<span id="cache-off">exact hits of route &lt;b id=evil&gt;r&lt;/b&gt;</span>' in document
