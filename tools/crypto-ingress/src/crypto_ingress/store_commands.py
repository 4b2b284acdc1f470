"""The implementation of the commands on the store. They start quickly, because they do not import the services."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from crypto_ingress.errors import CommandError
from crypto_ingress.progress import ProgressReport
from crypto_ingress.settings import RunSettings
from ingress_common.bus.mqtt import MqttBus
from ingress_common.times import rfc3339
from ingress_store import InfluxUrl, SqliteUrl, StoreUrl

if TYPE_CHECKING:
    from crypto_ingress.history.commands import Export, Verification

_SESSION_SECONDS = 60


async def import_files(
    settings: RunSettings,
    paths: Sequence[Path],
    symbol: str | None,
    write_line: Callable[[str], None],
    progress: ProgressReport,
) -> None:
    """Import archive files into the store. CommandError at the end if anything was wrong; valid rows are imported."""
    from crypto_ingress.history import commands as history

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(settings.store())
        await store.bootstrap()
        await history.import_files(store, paths, symbol, partial(expect_kept, settings), write_line, progress)


async def backfill(
    settings: RunSettings,
    symbols: Sequence[str],
    start: float,
    end: float | None,
    write_line: Callable[[str], None],
    progress: ProgressReport,
) -> None:
    """Fill gaps from Kraken's trades: through the gateway if MQTT_URL is set, else directly from Kraken."""
    from crypto_ingress.history import commands as history
    from crypto_ingress.history.backfilling import HistoryByGateway, MinuteSource, TradesByRest
    from crypto_ingress.history.kraken_rest import kraken_rest, with_retries

    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(settings.store())
        await store.bootstrap()
        source: MinuteSource
        if settings.external_broker:
            bus = MqttBus(
                settings.mqtt_url,
                client=settings.mqtt_client,
                client_id=f"{settings.topics.prefix}-backfill-{settings.instance_id}-{uuid4().hex[:8]}",
                session_expiry=_SESSION_SECONDS,
            )
            source = gateway = HistoryByGateway(bus, settings.topics)
            await stack.enter_async_context(gateway.open(symbols))
        else:
            rest = await stack.enter_async_context(kraken_rest(settings.kraken_rest_url, settings.kraken_tls))
            source = TradesByRest(rest, await with_retries(rest.pairs))
        await history.backfill(store, source, symbols, start, end, write_line, progress)


async def verify(
    settings: RunSettings,
    wanted: "Verification",
    paths: Sequence[Path],
    write_line: Callable[[str], None],
    progress: ProgressReport,
    *,
    kraken: bool,
) -> None:
    """Compare stored candles with each other, archive files and Kraken. CommandError if anything is wrong."""
    from crypto_ingress.history import commands as history
    from crypto_ingress.history.kraken_rest import kraken_rest

    _expect_there(settings.store_url)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(settings.store())
        rest = None
        if kraken:
            rest = await stack.enter_async_context(kraken_rest(settings.kraken_rest_url, settings.kraken_tls))
        await history.verify(store, wanted, paths, rest, write_line, progress)


async def export(settings: RunSettings, wanted: "Export", progress: ProgressReport) -> None:
    """Export closed candles. CommandError if the store does not exist or has no candles of a symbol."""
    from crypto_ingress.history import commands as history

    _expect_there(settings.store_url)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(settings.store())
        await history.export(store, wanted, progress)


def expect_kept(settings: RunSettings, first: float) -> None:
    """CommandError if InfluxDB would refuse candles older than a bucket's retention, before the file is read."""
    if not isinstance(settings.store_url, InfluxUrl):
        return
    age = time.time() - first
    short = [tf.value for tf, seconds in settings.retention.candles.items() if seconds is not None and seconds < age]
    if short:
        forever = ",".join(f"{name}=forever" for name in short)
        raise CommandError(
            f"RETENTION: InfluxDB would refuse candles of {rfc3339(first)}; expected {', '.join(short)} kept longer,"
            f" such as RETENTION={forever}, here and for admin-api"
        )


def _expect_there(store_url: StoreUrl) -> None:
    """CommandError if the SQLite file does not exist; opening would create it."""
    if isinstance(store_url, SqliteUrl) and not store_url.path.is_file():
        raise CommandError(f"STORE_URL: expected a store at {store_url}, got no such file")
