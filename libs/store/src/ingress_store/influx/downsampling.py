"""The tasks: a second roll-up of the candles inside InfluxDB, by the aggregator's laws.

They are a second check and the repair path, not the source. A task reads the closed and complete candles of the next
lower bucket and what is already in its own one, and writes a candle only if the stored one is missing, still forming,
incomplete, or has other trades than its children; so it leaves an aggregator's candle alone, to the last digit. vwap is
not compared: Kraken truncates its own, so a candle of Kraken's may differ from a roll-up by a price tick.

A task reads all candles only where the storage's sums (candles, trades, volume, last close, latest `at`) show a
difference, which costs a twelfth of reading every candle. A price that was wrong from the beginning, with the right
trades and volume and an `at` no earlier than its children's, is for the self-check.
"""

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store.influx import flux
from ingress_store.influx.names import CANDLE, candles, task

# A run looks back over four days of windows, within these bounds: late repairs reach the higher timeframes, and the
# cost stays bounded.
_LOOK_BACK_SECONDS = 4 * 86_400
_FEWEST_WINDOWS, _MOST_WINDOWS = 14, 60
_LONGEST_INTERVAL = Timeframe.H4.seconds
_FIRST_OFFSET = 15
_OFFSET_STEP = 10

LOWER_TIMEFRAMES: tuple[tuple[Timeframe, Timeframe], ...] = tuple(
    (timeframe, timeframe.lower) for timeframe in TIMEFRAMES if timeframe.lower
)
"""Each timeframe that has a task, and the one that it is made of; lowest first."""


def interval(timeframe: Timeframe) -> int:
    """Seconds between two runs: the candle's length, at most 4 hours so that late repairs reach higher timeframes."""
    return min(timeframe.seconds, _LONGEST_INTERVAL)


def offset(timeframe: Timeframe) -> int:
    """Seconds after the boundary: the aggregator comes first, and a task after the tasks that it builds on."""
    return _FIRST_OFFSET + _OFFSET_STEP * (TIMEFRAMES.index(timeframe) - 1)


def look_back(timeframe: Timeframe) -> int:
    """Seconds before a run that its task covers."""
    windows = _LOOK_BACK_SECONDS // timeframe.seconds
    return min(max(windows, _FEWEST_WINDOWS), _MOST_WINDOWS) * timeframe.seconds


def task_flux(timeframe: Timeframe) -> str:
    """The Flux of the timeframe's task."""
    options = (
        f'option task = {{name: "{task(timeframe)}", every: {interval(timeframe)}s, offset: {offset(timeframe)}s}}'
    )
    bounds = {"begin": f"time(v: int(v: now()) - {look_back(timeframe)}000000000)", "end": "now()"}
    return _TEMPLATE.format(options=f"{options}\n\n", **bounds, **_names(timeframe, ""))


def backfill_flux(timeframe: Timeframe, start: float, stop: float, prefix: str = "") -> str:
    """The same Flux for the windows in [start, stop), to run at any time. `prefix`: precedes the buckets' names."""
    return _TEMPLATE.format(options="", begin=flux.time(start), end=flux.time(stop), **_names(timeframe, prefix))


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
    }


# First the windows are found in which something is to be done, from sums that the storage makes by itself; only their
# series, and only from the first such window on, are then read candle by candle. What came later than the candle above
# it has a later `at`.
#
# A window at the edge of the range has not all of its children in it, and so is not written.
#
# `to` writes tags in the order of the table's columns, and InfluxDB 2.7 does not sort them: where symbol comes before
# exchange a second series of the same tags comes into being, and queries trip over it. A `map` gives its columns in
# alphabetical order only if Flux cannot vectorize it, else in any. So the last one calls a function that it cannot
# vectorize (a price is positive, so math.abs changes nothing), and nothing comes between it and `to`.
_TEMPLATE = """\
import "array"
import "math"
import "regexp"

{options}begin = {begin}
end = {end}

same = (a, b) => math.abs(x: a - b) <= 0.000000001 * math.abs(x: b)

// A sum of floats without its noise: rounded to ten decimals, and to fewer where a float does not hold that many.
exact = (x) => {{
  decimals = if x < 900000.0 then 10.0 else math.mMax(x: 0.0, y: 14.0 - math.floor(x: math.log10(x: x / 9.0)))
  scale = math.pow(x: 10.0, y: decimals)
  return math.round(x: x * scale) / scale
}}

// One number for each window that has candles, as the column `name`. A foreign candle may lack any.
sum_up = (tables, fn, name) => tables
  |> aggregateWindow(every: {seconds}s, fn: fn, createEmpty: false, timeSrc: "_start")
  |> toFloat()
  |> set(key: "_field", value: name)

sums = (bucket, prefix) => {{
  // A function, since the storage sums up for one reader only.
  all = () => from(bucket: bucket)
    |> range(start: begin, stop: end)
    |> filter(fn: (r) => r._measurement == {measurement})
  of = (field) => all() |> filter(fn: (r) => r._field == field)
  closed = all() |> filter(fn: (r) => r._field == "closed" and r._value == true)
  incomplete = all() |> filter(fn: (r) => r._field == "complete" and r._value == false)
  return union(tables: [
    sum_up(tables: closed, fn: count, name: prefix + "closed"),
    sum_up(tables: incomplete, fn: count, name: prefix + "incomplete"),
    sum_up(tables: of(field: "trades"), fn: sum, name: prefix + "trades"),
    sum_up(tables: of(field: "volume"), fn: sum, name: prefix + "volume"),
    sum_up(tables: of(field: "close"), fn: last, name: prefix + "close"),
    sum_up(tables: of(field: "at"), fn: max, name: prefix + "at"),
  ])
}}

// The series, and since when, in which a window has all of its children and is not what they come to.
found = union(tables: [
  union(tables: [sums(bucket: {source}, prefix: ""), sums(bucket: {target}, prefix: "is_")])
    |> group(columns: ["exchange", "symbol"])
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.closed and r.closed == {children}.0 and not exists r.incomplete and (
      not exists r.is_closed or exists r.is_incomplete
      or (if exists r.trades then r.trades else 0.0) != (if exists r.is_trades then r.is_trades else 0.0)
      or (if exists r.close then r.close else 0.0) != (if exists r.is_close then r.is_close else 0.0)
      or not same(a: if exists r.volume then r.volume else 0.0, b: if exists r.is_volume then r.is_volume else 0.0)
      or (if exists r.at then r.at else 0.0) > (if exists r.is_at then r.is_at else 0.0)))
    |> map(fn: (r) => ({{symbol: r.symbol, start: int(v: r._time)}})),
  array.from(rows: [{{symbol: "-", start: int(v: end) - 1}}]),
])
  |> group(columns: ["symbol"])
  |> min(column: "start")
  |> group()
  |> reduce(
    identity: {{symbols: "", start: int(v: end)}},
    fn: (r, accumulator) => ({{
      symbols: accumulator.symbols + "|" + regexp.quoteMeta(v: r.symbol),
      start: if r.start < accumulator.start then r.start else accumulator.start,
    }}),
  )
  |> findRecord(fn: (key) => true, idx: 0)
symbols = regexp.compile(v: "^(-" + found.symbols + ")$")

// A candle of either bucket as a row of the same columns. What a foreign hand wrote may lack the last three.
candles = (bucket, seconds) =>
  from(bucket: bucket)
    |> range(start: time(v: found.start), stop: end)
    |> filter(fn: (r) => r._measurement == {measurement} and r.symbol =~ symbols)
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.exchange and exists r.symbol and exists r.closed and exists r.open and exists r.high
      and exists r.low and exists r.close and exists r.volume and exists r.vwap and exists r.trades)
    |> map(fn: (r) => ({{
      exchange: r.exchange, symbol: r.symbol, _time: r._time, child: seconds == {source_seconds},
      open: r.open, high: r.high, low: r.low, close: r.close, volume: r.volume, vwap: r.vwap, trades: r.trades,
      closed: r.closed,
      revision: if exists r.revision then r.revision else 0,
      complete: if exists r.complete then r.complete else true,
      at: if exists r.at then r.at else int(v: r._time) / 1000 + seconds * 1000000,
    }}))

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
    volume: exact(x: r.volume),
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
    }}),
  )
"""
