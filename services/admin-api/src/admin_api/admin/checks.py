"""Whether the system works: pure functions of its state, each giving one check of `GET /health`.

Green means stored: every wanted symbol is live, seeded in all timeframes, closed on time and in the store, and every
service reports that it can work.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from admin_api.system.details import instant_of, texts
from admin_api.system.state import (
    WATERMARK_SECONDS,
    ReportedFeed,
    SymbolState,
    SystemState,
)
from admin_api.system.wanted import Wanted
from ingress_common.health import Check, some
from ingress_common.membership import TAKEOVER_SECONDS
from ingress_common.service_names import AGGREGATOR, GATEWAY, WRITER
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import TaskState

CLOSE_SECONDS = 45.0
"""Maximum time from a candle's end to its close: Kraken's delay, the watermark's, and a check of an inactive symbol."""

UPDATE_SECONDS = 8.0
"""Maximum time from an update that a gateway has published to the next candle of any symbol."""

CLOCK_SECONDS = 5.0
"""Maximum difference of this machine's clock from Kraken's time; a watermark counts as fresh for little longer."""

LOST_SECONDS = 15.0
"""Maximum time that a writer may lack candles: it requests them at once, and retries after some seconds."""

TASK_SECONDS = 120.0
"""Maximum delay of a task's run after its due time."""

GONE_FEED_SECONDS = 60.0
"""A feed of a gateway that is gone is a problem for this long: meanwhile other gateways take over its symbols."""

_DAY = 86_400.0
_NEVER_SEEN = SymbolState(seen_at=0.0, since=0.0)


def data_check(state: SystemState, wanted: Wanted) -> Check:
    """Red until a feed or a candle was received, or a gateway reports that its pairs have never traded."""
    if not state.feeds and not state.symbols and not wanted.untraded:
        return Check("data", ok=False, detail="neither a feed nor a candle on the bus")
    return Check("data", ok=True, detail=f"{len(state.feeds)} feeds, {len(state.symbols)} symbols")


def clock_check(state: SystemState, now: float) -> Check:
    """Red when our clock is wrong, by watermarks, which carry Kraken's time and arrive every second."""
    recent = (feed.skew for feed in state.feeds.values() if now - feed.seen_at <= WATERMARK_SECONDS)
    skew = min((skew.seconds for skew in recent if skew is not None), key=abs, default=0.0)
    if skew > CLOCK_SECONDS:
        late = (
            f"this machine's clock is {skew:.0f} s ahead of Kraken's time, or the gateways' messages arrive that late"
        )
        return Check("clock", ok=False, detail=late)
    if skew < -CLOCK_SECONDS:
        return Check("clock", ok=False, detail=f"this machine's clock is {-skew:.0f} s behind Kraken's time")
    return Check("clock", ok=True, detail="this machine's clock agrees with Kraken's time")


def service_check(state: SystemState, service: str, now: float) -> Check:
    """Red when no instance of `service` is online, or an online one is not ready."""
    online = dict(state.online(service, now))
    unready = [f"{name}: {_problems(details)}" for name, details in online.items() if details.get("ready") is False]
    if unready:
        return Check(service, ok=False, detail=some(unready))
    if online:
        return Check(service, ok=True, detail=f"online: {some(list(online))}")
    known = sum(of == service for of, _ in state.instances)
    away = f"none of {known} known instances is online" if known else "no instance has been seen"
    return Check(service, ok=False, detail=away)


def _problems(details: Mapping[str, Any]) -> str:
    """The problems in an instance's status."""
    return "; ".join(texts(details.get("problems"))) or "not ready, and no reason given"


def feeds_check(state: SystemState, now: float, carried: frozenset[str], wanted: Wanted) -> Check:
    """Red when a feed is down or late and no other feed carries its symbols.

    No feed is needed while none of the wanted pairs has ever traded.
    """
    fresh = sorted(name for name, feed in state.feeds.items() if feed.is_fresh(now))
    kept = {feed for _, details in state.online(GATEWAY, now) for feed in texts(details.get("feeds"))}
    # The retained feeds of a gateway that is gone stay. They are no problem once other feeds carry the symbols, or once
    # the other gateways have had the time to take over those that are still wanted.
    failing = [
        f"{name}: {_describe(feed, now)}"
        for name, feed in sorted(state.feeds.items())
        if name not in fresh
        and not carried.issuperset(feed.carried)
        and (name in kept or now - feed.ran_at <= GONE_FEED_SECONDS)
    ]
    if failing:
        return Check("feeds", ok=False, detail=some(failing))
    if not fresh and not wanted.symbols and wanted.untraded:
        return Check("feeds", ok=True, detail="none needed: no pair has traded yet")
    if not fresh:
        away = [f"{name}: {_describe(feed, now)}" for name, feed in sorted(state.feeds.items())]
        return Check("feeds", ok=False, detail=f"no live feed ({some(away)})" if away else "no live feed")
    return Check("feeds", ok=True, detail=f"live: {some(fresh)}")


def _describe(feed: ReportedFeed, now: float) -> str:
    age = feed.age(now)
    return f"{feed.state.state.value}, " + ("no watermark yet" if age is None else f"watermark {age:.0f} s old")


def symbols_check(
    state: SystemState, now: float, carried: frozenset[str], wanted: Wanted, new: frozenset[str]
) -> Check:
    """Red when no live feed carries a wanted symbol, or when Kraken's REST does not know one.

    `new` ones may still become live.
    """
    uncarried = sorted(wanted.symbols - carried - new)
    if uncarried:
        return Check("symbols", ok=False, detail=f"no live feed carries {some(uncarried)}")
    if wanted.unknown_at_rest:
        named = [f"{symbol}: {reason}" for symbol, reason in sorted(wanted.unknown_at_rest.items())]
        return Check("symbols", ok=False, detail=some(named))
    left = sorted(
        name
        for name, symbol in state.symbols.items()
        if name not in wanted.symbols and name not in wanted.rejected and _is_of_today(symbol, now)
    )
    notes = [
        f"; {what}: {some(names)}"
        for what, names in (
            ("rejected", [f"{symbol} ({reason})" for symbol, reason in sorted(wanted.rejected.items())]),
            ("not traded yet", sorted(wanted.untraded)),
            ("new", sorted(new & wanted.symbols - carried)),
            ("no longer followed", left),
        )
        if names
    ]
    return Check("symbols", ok=True, detail=f"{len(carried)} carried by live feeds{''.join(notes)}")


def _is_of_today(symbol: SymbolState, now: float) -> bool:
    return symbol.at is not None and now - symbol.at <= _DAY


def seeds_check(state: SystemState, now: float, wanted: Wanted, new: frozenset[str]) -> Check:
    """Red when a wanted symbol lacks candles of a timeframe; `new` ones may still be seeded.

    A symbol that was seeded and has no candle at all is fine if no gateway has published trades of it: it has never
    traded.
    """
    seeded: set[str] = set()
    for _, details in state.online(AGGREGATOR, now):
        symbols = texts(details.get("symbols"))
        if details.get("initialized") == len(symbols):
            seeded.update(symbols)
    lacking, empty = [], []
    for name in sorted(wanted.symbols - new):
        known = state.symbols.get(name, _NEVER_SEEN).timeframes
        if not known:
            empty.append(name)
        if len(known) < len(TIMEFRAMES) and (known or name not in seeded or name in state.traded):
            lacking.append(f"{name} ({', '.join(t.value for t in TIMEFRAMES if t not in known)})")
    if lacking:
        return Check("seeds", ok=False, detail=f"{len(lacking)} symbols lack candles: {some(lacking)}")
    note = f"; never traded: {some(empty)}" if empty else ""
    return Check("seeds", ok=True, detail=f"{len(wanted.symbols)} symbols have candles of all timeframes{note}")


def candles_check(state: SystemState, now: float, wanted: Wanted) -> Check:
    """Red when the feed of a wanted symbol is live and a candle is not closed CLOSE_SECONDS after its end, or when
    there are trades and no candle of a timeframe, or of a symbol, shows them for UPDATE_SECONDS.
    """
    if problem := state.unshown.problem(now, UPDATE_SECONDS):
        return Check("candles", ok=False, detail=f"gateways publish updates, but {problem}")
    if unshown := [symbol for symbol in state.unshown_symbols(now, UPDATE_SECONDS) if symbol in wanted.symbols]:
        return Check(
            "candles", ok=False, detail=f"gateways publish updates, but no 1m candle of {some(unshown)} arrives"
        )
    gapped: set[str] = set()
    for _, details in state.online(AGGREGATOR, now):
        gapped.update(texts(details.get("gaps")))
    live = {n: since for n, since in state.live_since(now).items() if n in wanted.symbols and n in state.symbols}
    due = {timeframe: timeframe.floor(now - CLOSE_SECONDS) for timeframe in TIMEFRAMES}
    late = []
    for name, since in sorted(live.items()):
        # Over a known gap only minutes close.
        timeframes = (Timeframe.M1,) if name in gapped else TIMEFRAMES
        first = _first_late(state.symbols[name], since, due, timeframes)
        if first is not None:
            late.append(f"{name} {first.value} ({now - due[first]:.0f} s)")
    if late:
        return Check("candles", ok=False, detail=f"the feed is live, but these do not close: {some(late)}")
    return Check("candles", ok=True, detail=f"{len(live)} symbols close on time")


def _first_late(
    symbol: SymbolState, since: float, due: Mapping[Timeframe, int], timeframes: Sequence[Timeframe]
) -> Timeframe | None:
    """The lowest timeframe with a late candle.

    Skipped are windows that began before the feed was live, which may have a gap, and those that ended before the
    symbol's first candle arrived here: what is retained of them may be forming already, and a correction of an older
    one may have come.
    """
    for timeframe in timeframes:
        newest = symbol.newest_closed(timeframe)
        opened = due[timeframe] - timeframe.seconds
        if opened >= since and due[timeframe] > symbol.since and (newest is None or newest < opened):
            return timeframe
    return None


def losses_check(state: SystemState, now: float) -> Check:
    """Red when a writer lacks published candles for longer than LOST_SECONDS, by their sequence numbers."""
    lost: list[str] = []
    late = False
    for instance, details in state.online(WRITER, now, TAKEOVER_SECONDS):
        count, since = details.get("missing_candles"), instant_of(details.get("missing_since"))
        if isinstance(count, int) and count and since is not None:
            lost.append(f"{count} for {max(0.0, now - since):.0f} s ({instance})")
            late |= now - since > LOST_SECONDS
    detail = f"published candles that no writer received: {', '.join(lost)}" if lost else "no closed candle was lost"
    return Check("losses", ok=not late, detail=detail)


def task_problem(task: TaskState, now: float) -> str | None:
    """The problem of a store's task at `now` (unix seconds); None if it works."""
    if not task.exists:
        return "is missing"
    if not task.active:
        return "is switched off"
    if task.error is not None:
        return f"failed: {task.error}"
    # A run is due at the boundary and starts `offset` later.
    seen = max((instant for instant in (task.since, task.last_run) if instant is not None), default=now)
    late = now - (seen + task.every + task.offset + TASK_SECONDS)
    return f"is {late:.0f} s late" if late > 0 else None


def tasks_check(tasks: Sequence[TaskState], now: float) -> Check:
    """Red when a task of the store is missing, off, failed or late."""
    found = [f"{task.name} {problem}" for task in tasks if (problem := task_problem(task, now))]
    if found:
        return Check("tasks", ok=False, detail=some(found))
    return Check("tasks", ok=True, detail=f"{len(tasks)} tasks run on time")
