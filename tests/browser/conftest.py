"""The demo as a person starts it, with a symbol in its store whose past is known, and a browser on it."""

import re
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from admin_api.admin.dashboard import STATIC
from admin_client import Api, until
from chromium import Browser, browser_on
from command import Running
from ingress_common.timeframes import TIMEFRAMES
from old_symbol import write_old_candles
from servers import free_port, missing

TOKEN = "token-of-the-tests"
BROKER = re.compile(r"mqtt://[\w.:]+\d")
SYMBOLS = ("BTC/USD", "DOGE/USD", "ETH/USD")


@pytest.fixture(autouse=True)
def _is_built() -> None:
    if not (STATIC / "index.html").is_file():
        missing("dashboard", "build it with make web")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A running demo that is well."""
    folder = tmp_path_factory.mktemp("demo")
    store = folder / "candles.db"
    await write_old_candles(store)
    port, control = free_port(), free_port()
    settings = {
        "HTTP_PORT": str(port),
        "SIM_PORT": "0",
        "SIM_CONTROL_PORT": str(control),
        "STORE_URL": f"sqlite:///{store}",
        "ADMIN_TOKEN": TOKEN,
    }
    async with Running("demo", "crypto_ingress", "demo", folder=folder, **settings) as running:
        base = f"http://127.0.0.1:{port}"
        until(lambda: BROKER.search(running.output()), 90, lambda: f"the broker's address; {running.output()}")
        broker = BROKER.findall(running.output())[0]
        api = Api(base, TOKEN, store, f"http://127.0.0.1:{control}", broker)
        api.until_health(200, 90, running.output)
        series = [(symbol, timeframe) for symbol in SYMBOLS for timeframe in TIMEFRAMES]
        until(
            lambda: all(len(api.closed(s, t.value)) > 1 for s, t in series), 90, lambda: f"candles; {running.output()}"
        )
        yield api


@pytest.fixture(scope="module")
def module_browser(demo: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser_on(demo.base, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(module_browser: Browser) -> Iterator[Browser]:
    """On the demo; after the test its console is clean, and it has asked no other host for anything."""
    module_browser.size(1440, 900)
    module_browser.prefer("light")
    module_browser.open("#/health")
    module_browser.run("localStorage.clear(); sessionStorage.clear()")
    module_browser.rest_pointer()
    module_browser.complaints()
    yield module_browser
    assert module_browser.complaints() == []
    assert module_browser.requested_hosts() == {module_browser.base.removeprefix("http://")}
