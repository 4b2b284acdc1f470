"""Everything works where a reverse proxy puts admin-api under a path: pages, links, streams, the description."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx
import pytest
from aiohttp import web

from chromium import browser_on
from test_docs import shown

pytestmark = pytest.mark.timeout(300)

PATH = "/deep/candles"


@contextmanager
def proxy_before(target: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy that serves `target` below PATH and nothing beside it; gives its URL and what was asked for beside it."""
    beside: list[str] = []
    loop = asyncio.new_event_loop()
    started: asyncio.Future[int] = loop.create_future()
    stop = asyncio.Event()

    async def forward(request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(f"{PATH}/"):
            beside.append(request.path)
            raise web.HTTPNotFound
        address = target + request.raw_path.removeprefix(PATH)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, address, headers=request.headers, data=await request.read(), allow_redirects=False
            ) as answer,
        ):
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            # A page that is left ends its stream.
            with suppress(ConnectionError):
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            return response

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", forward)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.set_result(runner.addresses[0][1])
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(_value(started), loop).result(10)
        yield f"http://127.0.0.1:{port}{PATH}", beside
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def _value(future: "asyncio.Future[int]") -> int:
    return await future


def test_pages_below_a_path_find_everything(demo, tmp_path):
    with proxy_before(demo.base) as (base, beside), browser_on(base, tmp_path / "profile") as browser:
        browser.open("#/chart/BTC-USD/1m")
        browser.until(lambda: browser.attribute("#chart", "data-windows"), 30, "candles")
        browser.until(lambda: browser.attribute("#live", "data-state") == "live", 30, "a stream")
        browser.open("#/health")
        browser.until(lambda: browser.attribute("#verdict", "data-mark") == "good", 30, "a green page")
        links = browser.run("return [...document.querySelectorAll('a[href]')].map((link) => link.href)")
        ours = {link for link in links if urlsplit(link).netloc == urlsplit(base).netloc}
        assert ours
        for link in ours:
            assert link.startswith(f"{base}/"), link
            assert httpx.get(link).status_code == 200
        browser.open("docs")
        operations = len(httpx.get(f"{base}/openapi.json").json()["paths"])
        browser.until(lambda: shown(browser) >= operations, 30, f"{operations} operations")
        live = "#operations-health-live_health_live_get"
        browser.click(f"{live} .opblock-summary-control")
        browser.until(lambda: browser.all(f"{live} .try-out__btn"), 10, "the operation's details")
        browser.click(f"{live} .try-out__btn")
        browser.until(lambda: browser.all(f"{live} .execute"), 10, "a button that asks")
        browser.click(f"{live} .execute")
        answer = f"{live} .live-responses-table .response-col_status"
        browser.until(lambda: any("200" in cell.text for cell in browser.all(answer)), 20, "the answer 200")
        assert browser.run("return document.querySelector('header a').href") == f"{base}/"
        assert browser.complaints() == []
        assert beside == []


def test_link_headers_below_a_path_lead_to_the_next_page(demo):
    with proxy_before(demo.base) as (base, beside):
        address, pages = f"{base}/candles/BTC-USD?timeframe=1m&limit=3", []
        while address and len(pages) < 3:
            answer = httpx.get(address).raise_for_status()
            pages.append([candle["open_time"] for candle in answer.json()["candles"]])
            link = answer.links.get("previous") or answer.links.get("next")
            address = urljoin(address, link["url"]) if link else ""
        assert len(pages) > 1
        assert len({time for page in pages for time in page}) >= sum(map(len, pages)) - len(pages)
        problem = httpx.get(f"{base}/candles/NO-PAIR")
        assert problem.status_code == 404
        assert not str(problem.json().get("instance", "")).startswith("/candles")
        assert beside == []
