"""What the tasks inside InfluxDB cost it at the size of all of Kraken."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.candle_feed import symbols
from bench.figure import Definition, Group, Measurement, Outcome, at_most
from bench.influx_points import InfluxPoints
from bench.processes import cpu_seconds, influxdb
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import task_flux
from ingress_store.influx.downsampling import interval, look_back

_SYMBOLS = 1_449
_REPAIRED = 20
_ROUNDS = 3
_LINES = 20_000
_CORES = 0.1
_PART = 0.2
_LATE = 1_000_000


@dataclass(frozen=True)
class _Candle:
    """What of a candle a roll-up depends on; the volume is twice the trades."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    trades: int


@dataclass(frozen=True)
class _Cost:
    """Seconds that a run took, and seconds of CPU that it cost InfluxDB."""

    wall: float
    cpu: float


def _measure() -> Mapping[str, Outcome]:
    with influxdb() as server, InfluxPoints(server) as influx:
        now = int(time.time())
        series = _series(now)
        for timeframe, candles in series.items():
            _write(influx, timeframe, symbols(_SYMBOLS), candles)
        settled = [{t: _run(influx, server.pid, t) for t in TIMEFRAMES[1:]} for _ in range(_ROUNDS)]
        repaired = []
        for part in range(_ROUNDS):
            _repair(influx, symbols(_SYMBOLS)[part * _REPAIRED : (part + 1) * _REPAIRED], series)
            repaired.append({t: _run(influx, server.pid, t) for t in TIMEFRAMES[1:]})
    return {
        _SETTLED: _cores(settled),
        _LONGEST: _longest(settled),
        _AFTER_REPAIR: _longest(repaired),
    }


def _cores(runs: Sequence[Mapping[Timeframe, _Cost]]) -> Measurement:
    shares = [sum(cost.cpu / interval(timeframe) for timeframe, cost in run.items()) for run in runs]
    return Measurement(tuple(share / _CORES for share in shares), f"{min(shares):.3f} of a core")


def _longest(runs: Sequence[Mapping[Timeframe, _Cost]]) -> Measurement:
    parts = [max((cost.wall / interval(t), t, cost.wall) for t, cost in run.items()) for run in runs]
    part, timeframe, wall = min(parts)
    note = f"{part:.3f} of its interval: {wall:.1f} s of the task of {timeframe.value}"
    return Measurement(tuple(part / _PART for part, *_ in parts), note)


def _run(influx: InfluxPoints, pid: int, timeframe: Timeframe) -> _Cost:
    started, spent = time.monotonic(), cpu_seconds(pid)
    influx.query(task_flux(timeframe))
    return _Cost(time.monotonic() - started, cpu_seconds(pid) - spent)


# --- candles that agree with each other ------------------------------------------------------------------------------


def _series(now: int) -> dict[Timeframe, list[_Candle]]:
    """Closed candles of each timeframe, as far back as the tasks look, each made of those of the next lower one."""
    made: dict[Timeframe, list[_Candle]] = {}
    for timeframe in TIMEFRAMES:
        higher = TIMEFRAMES[min(TIMEFRAMES.index(timeframe) + 1, len(TIMEFRAMES) - 1)]
        back = max(look_back(t) for t in (timeframe, higher) if t is not Timeframe.M1)
        end = timeframe.floor(now)
        children = made[timeframe.lower] if timeframe.lower else []
        made[timeframe] = [
            _rolled_up(open_time, children, timeframe) or _made_up(open_time)
            for open_time in range(timeframe.floor(end - back), end, timeframe.seconds)
        ]
    return made


def _rolled_up(open_time: int, children: Sequence[_Candle], timeframe: Timeframe) -> _Candle | None:
    parts = [child for child in children if open_time <= child.open_time < open_time + timeframe.seconds]
    if len(parts) < timeframe.children:
        return None
    high, low = max(part.high for part in parts), min(part.low for part in parts)
    return _Candle(open_time, parts[0].open, high, low, parts[-1].close, sum(part.trades for part in parts))


def _made_up(open_time: int) -> _Candle:
    price = 100 + open_time // 60 % 97 / 8
    return _Candle(open_time, price, price + 0.5, price - 0.5, price + 0.25, 1 + open_time // 60 % 7)


def _write(influx: InfluxPoints, timeframe: Timeframe, names: Sequence[str], candles: Sequence[_Candle]) -> None:
    lines: list[str] = []
    for line in _lines(timeframe, names, candles):
        lines.append(line)
        if len(lines) == _LINES:
            influx.write(f"candles_{timeframe.value}", "\n".join(lines))
            lines.clear()
    influx.write(f"candles_{timeframe.value}", "\n".join(lines))


def _lines(timeframe: Timeframe, names: Sequence[str], candles: Sequence[_Candle], late: int = 0) -> Iterator[str]:
    fields = [
        (
            f"open={c.open},high={c.high},low={c.low},close={c.close},volume={2 * c.trades}.0,vwap={c.close},"
            f"trades={c.trades}i,closed=true,infilled=false,revision=0i,complete=true,"
            f'source="rollup",at={(c.open_time + timeframe.seconds) * 1_000_000 + late}i {c.open_time}'
        )
        for c in candles
    ]
    for name in names:
        yield from (f"candle,exchange=kraken,symbol={name} {text}" for text in fields)


def _repair(influx: InfluxPoints, names: Sequence[str], series: Mapping[Timeframe, Sequence[_Candle]]) -> None:
    """Correct the oldest minute of these symbols that a task looks at."""
    first = min(candle.open_time for candle in series[Timeframe.M5])
    minute = next(candle for candle in series[Timeframe.M1] if candle.open_time >= first)
    corrected = _Candle(minute.open_time, minute.open, minute.high, minute.low, minute.close, minute.trades + 1)
    influx.write("candles_1m", "\n".join(_lines(Timeframe.M1, names, [corrected], _LATE)))


_SETTLED, _LONGEST, _AFTER_REPAIR = (f"tasks, {what}" for what in ("CPU", "longest run", "longest run after a repair"))
_WORLD = f"{_SYMBOLS:,} symbols with all candles that the tasks look at"

GROUPS = (
    Group(
        (
            Definition(
                _SETTLED,
                f"CPU of influxd for a run of each of the six tasks, each divided by its interval, over {_WORLD}, "
                f"where nothing is to be done; divided by {_CORES} cores.",
                at_most(1),
            ),
            Definition(
                _LONGEST,
                f"The longest of these runs, as a part of its interval, divided by {_PART}.",
                at_most(1),
            ),
            Definition(
                _AFTER_REPAIR,
                f"The same when the oldest minute of {_REPAIRED} symbols has been corrected.",
                at_most(1),
            ),
        ),
        _measure,
    ),
)
