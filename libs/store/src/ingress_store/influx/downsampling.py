"""The tasks: candles rolled up once more inside InfluxDB, by the aggregator's laws.

They are the second pair of eyes and the repair path, not the source. A task reads the closed and complete candles of
the next lower bucket and what is already in its own one, and writes only what is missing, still forming, incomplete, or
tells of other trades than its children do; so it leaves an aggregator's candle alone, to the last digit. vwap is not
compared: Kraken cuts its own off, and a candle that came from there may differ from a roll-up by a tick.
"""

from collections.abc import Mapping

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.influx import flux
from ingress_store.influx.lines import NO_CHECK
from ingress_store.influx.names import CANDLE, candles, task

# Windows that a run looks back: late repairs flow up, and what it costs stays bounded (some 6,000 children a second).
_LOOK_BACK: Mapping[Timeframe, int] = {
    Timeframe.M5: 60,
    Timeframe.M15: 48,
    Timeframe.H1: 48,
    Timeframe.H4: 24,
    Timeframe.D1: 14,
    Timeframe.W1: 8,
}
_LONGEST_INTERVAL = Timeframe.H4.seconds
_FIRST_OFFSET = 15
_OFFSET_STEP = 10

LOWER_TIMEFRAMES: tuple[tuple[Timeframe, Timeframe], ...] = tuple(
    (timeframe, timeframe.lower) for timeframe in TIMEFRAMES if timeframe.lower
)
"""Each timeframe that has a task, and the one that it is made of; lowest first."""


def interval(timeframe: Timeframe) -> int:
    """Seconds between two runs: the candle's length, but at least every 4 hours so that late repairs flow up."""
    return min(timeframe.seconds, _LONGEST_INTERVAL)


def offset(timeframe: Timeframe) -> int:
    """Seconds after the boundary: the aggregator comes first, and every task after those that it builds on."""
    return _FIRST_OFFSET + _OFFSET_STEP * (TIMEFRAMES.index(timeframe) - 1)


def task_flux(timeframe: Timeframe) -> str:
    """The text of the timeframe's task."""
    options = (
        f'option task = {{name: "{task(timeframe)}", every: {interval(timeframe)}s, offset: {offset(timeframe)}s}}'
    )
    look_back = _LOOK_BACK[timeframe] * timeframe.seconds
    return _TEMPLATE.format(options=f"{options}\n\n", range=f"start: -{look_back}s", **_names(timeframe, ""))


def backfill_flux(timeframe: Timeframe, start: float, stop: float, prefix: str = "") -> str:
    """The same for the windows that lie in [start, stop), at any time. `prefix`: of the buckets, for a copy of them."""
    bounds = f"start: {flux.time(start)}, stop: {flux.time(stop)}"
    return _TEMPLATE.format(options="", range=bounds, **_names(timeframe, prefix))


def _names(timeframe: Timeframe, prefix: str) -> dict[str, str | int]:
    lower = timeframe.lower
    if lower is None:
        raise ValueError(f"expected a timeframe that is made of a lower one, got {timeframe.value}")
    return {
        "measurement": flux.quoted(CANDLE),
        "source": flux.quoted(prefix + candles(lower)),
        "target": flux.quoted(prefix + candles(timeframe)),
        "source_seconds": lower.seconds,
        "seconds": timeframe.seconds,
        "children": timeframe.children,
        "no_check": NO_CHECK,
    }


# A window at the edge of the range has not all of its children in it, and so is not written.
#
# `to` writes tags in the order of the table's columns, and InfluxDB 2.7 does not sort them: where symbol comes before
# exchange a second series of the same tags comes into being, and queries trip over it. A `map` gives its columns in
# alphabetical order only if Flux cannot vectorize it, else in any. So the last one calls a function that it cannot
# vectorize (a price is positive, so math.abs changes nothing), and nothing comes between it and `to`.
_TEMPLATE = """\
import "math"

{options}// A candle of either bucket as a row of the same columns. What a foreign hand wrote may lack the last three.
candles = (bucket, seconds) =>
  from(bucket: bucket)
    |> range({range})
    |> filter(fn: (r) => r._measurement == {measurement})
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.closed and exists r.open and exists r.trades)
    |> map(fn: (r) => ({{
      exchange: r.exchange, symbol: r.symbol, _time: r._time, child: seconds == {source_seconds},
      open: r.open, high: r.high, low: r.low, close: r.close, volume: r.volume, vwap: r.vwap, trades: r.trades,
      closed: r.closed,
      revision: if exists r.revision then r.revision else 0,
      complete: if exists r.complete then r.complete else true,
      at: if exists r.at then r.at else int(v: r._time) / 1000 + seconds * 1000000,
    }}))

same = (a, b) => math.abs(x: a - b) <= 0.000000001 * math.abs(x: b)

// All children or nothing, and only those that traded count; without any the candle is flat at the last close.
union(tables: [
  candles(bucket: {source}, seconds: {source_seconds}) |> filter(fn: (r) => r.closed and r.complete),
  candles(bucket: {target}, seconds: {seconds}),
])
  |> group(columns: ["exchange", "symbol"])
  |> window(every: {seconds}s)
  |> sort(columns: ["_time"])
  |> reduce(
    identity: {{
      children: 0, traded: 0, open: 0.0, high: 0.0, low: 0.0, close: 0.0, last: 0.0,
      volume: 0.0, notional: 0.0, trades: 0, at: 0,
      is_open: 0.0, is_high: 0.0, is_low: 0.0, is_close: 0.0, is_volume: 0.0, is_trades: 0, is_revision: 0,
      is_whole: false, is_closed: false,
    }},
    fn: (r, accumulator) => {{
      trade = r.child and r.trades > 0
      first = trade and accumulator.traded == 0
      return {{
        children: if r.child then accumulator.children + 1 else accumulator.children,
        traded: if trade then accumulator.traded + 1 else accumulator.traded,
        open: if first then r.open else accumulator.open,
        high: if first or (trade and r.high > accumulator.high) then r.high else accumulator.high,
        low: if first or (trade and r.low < accumulator.low) then r.low else accumulator.low,
        close: if trade then r.close else accumulator.close,
        last: if r.child then r.close else accumulator.last,
        volume: if trade then accumulator.volume + r.volume else accumulator.volume,
        notional: if trade then accumulator.notional + r.vwap * r.volume else accumulator.notional,
        trades: if trade then accumulator.trades + r.trades else accumulator.trades,
        at: if r.at > accumulator.at then r.at else accumulator.at,
        is_open: if r.child then accumulator.is_open else r.open,
        is_high: if r.child then accumulator.is_high else r.high,
        is_low: if r.child then accumulator.is_low else r.low,
        is_close: if r.child then accumulator.is_close else r.close,
        is_volume: if r.child then accumulator.is_volume else r.volume,
        is_trades: if r.child then accumulator.is_trades else r.trades,
        is_revision: if r.child then accumulator.is_revision else r.revision,
        is_whole: if r.child then accumulator.is_whole else r.closed and r.complete,
        is_closed: if r.child then accumulator.is_closed else r.closed,
      }}
    }},
  )
  |> filter(fn: (r) => r.children == {children})
  |> filter(fn: (r) => not (r.is_whole and r.trades == r.is_trades and same(a: r.volume, b: r.is_volume)
    and (r.traded == 0 or (same(a: r.open, b: r.is_open) and same(a: r.high, b: r.is_high)
      and same(a: r.low, b: r.is_low) and same(a: r.close, b: r.is_close)))
    and (r.traded > 0 or same(a: r.last, b: r.is_close))))
  |> map(fn: (r) => ({{
    exchange: r.exchange, symbol: r.symbol, _time: r._start, _measurement: {measurement},
    open: math.abs(x: if r.traded > 0 then r.open else r.last),
    high: if r.traded > 0 then r.high else r.last,
    low: if r.traded > 0 then r.low else r.last,
    close: if r.traded > 0 then r.close else r.last,
    volume: r.volume,
    vwap: if r.volume > 0.0 then r.notional / r.volume else if r.traded > 0 then r.close else r.last,
    trades: r.trades, infilled: r.traded == 0, at: r.at,
    revision: if r.is_closed then r.is_revision + 1 else r.is_revision,
  }}))
  |> to(
    bucket: {target},
    tagColumns: ["exchange", "symbol"],
    fieldFn: (r) => ({{
      open: r.open, high: r.high, low: r.low, close: r.close, volume: r.volume, vwap: r.vwap, trades: r.trades,
      closed: true, infilled: r.infilled, revision: r.revision, complete: true, source: "rollup", at: r.at,
      check: {no_check},
    }}),
  )
"""
