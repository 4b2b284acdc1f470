"""Compares all stored and retained candles with the truth, the simulator's trades."""

import asyncio
import time
from dataclasses import dataclass

from chaos.compose import row_of_columns
from chaos.judge import SECONDS, Finding, StoredRow, Verdict, judge_retained, judge_store
from chaos.kraken import Kraken
from chaos.watch import TOPICS, retained_candles
from influx_rows import stored_rows
from servers import InfluxPlace

_QUERY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Comparison:
    """The numbers of compared candles, and the findings."""

    candles: int
    retained: int
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        counts = ", ".join(
            f"{sum(finding.verdict is verdict for finding in self.findings)} {verdict}" for verdict in Verdict
        )
        return f"{self.candles} stored and {self.retained} retained candles compared: {counts}"


async def compare(place: InfluxPlace, org: str, broker_url: str, kraken: Kraken, since: float) -> Comparison:
    """Compare every candle since `since` (unix seconds)."""
    symbols = await kraken.symbols()
    retained_at = time.time()
    retained = await retained_candles(broker_url, symbols)
    read_by = time.time()
    findings: list[Finding] = []
    candles = 0
    for timeframe in SECONDS:
        now = time.time()
        rows: dict[str, list[StoredRow]] = {}
        for columns in await asyncio.to_thread(lambda tf=timeframe: list(stored_rows(place, org, tf, _QUERY_SECONDS))):
            row = row_of_columns(columns, timeframe)
            rows.setdefault(row.symbol, []).append(row)
        rows_read_by = time.time()
        for symbol in symbols:
            found = rows.get(symbol, [])
            first = min([int(since), *(row.open_time for row in found)])
            truth = await kraken.truth(symbol, timeframe, first)
            more, count = judge_store(found, truth, symbol, timeframe, since=since, now=now, read_by=rows_read_by)
            candles += count
            findings += more
            topic = TOPICS.candles(symbol, timeframe)
            findings += judge_retained(retained.get(topic), truth, symbol, timeframe, now=retained_at, read_by=read_by)
    return Comparison(candles, len(retained), tuple(findings))
