"""Whether the system as a whole is well: a pure function of what the bus and the store say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from admin_api.system.view import BusView, FeedView
from ingress_common.health import Check
from ingress_common.times import rfc3339
from ingress_store import TaskState

WORKERS = ("kraken-gateway", "aggregator", "influx-writer")
"""The services of which at least one instance must be online."""

WATERMARK_SECONDS = 10.0
"""How old a feed's watermark may be."""

SILENCE_SECONDS = 60.0
"""An instance that says it is online, and has not said so for this long, is not."""

CANDLE_SECONDS = 180.0
"""How far the candles of a symbol whose feed is live may be behind: a minute, and time to seed and repair."""

TASK_SECONDS = 120.0
"""How long a task's run may take beyond the time at which it is due."""

ABANDONED_SECONDS = 86400.0
"""A symbol whose last candle is older than this was taken out of the settings, and is nobody's any more."""

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Report:
    """The checks, and all that they were made of."""

    checks: tuple[Check, ...]
    details: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether everything is well."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The answer of `GET /health`."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"status": "ok" if self.ok else "failing", "checks": checks, **self.details}


def assess(view: BusView, now: float, broker: Check, store: Check, tasks: Sequence[TaskState] = ()) -> Report:
    """The health of everything at `now` (unix seconds), given whether broker and store answer, and how `tasks` do."""
    carried = carried_symbols(view, now)
    checks = (
        broker,
        store,
        _data(view),
        *(_service(view, service, now) for service in WORKERS),
        _feeds(view, now, carried),
        _symbols(view, now, carried),
        _candles(view, now),
        *([_tasks(tasks, now)] if tasks else []),
    )
    return Report(checks, {**_details(view, now, carried), "tasks": [_task_details(task, now) for task in tasks]})


def carried_symbols(view: BusView, now: float) -> frozenset[str]:
    """The symbols of feeds that are live and have a fresh watermark."""
    fresh = (feed for feed in view.feeds.values() if feed.is_fresh(now, WATERMARK_SECONDS))
    return frozenset(symbol for feed in fresh for symbol in feed.state.symbols)


def _data(view: BusView) -> Check:
    if not view.feeds and not view.symbols:
        return Check("data", ok=False, detail="neither a feed nor a candle on the bus")
    return Check("data", ok=True, detail=f"{len(view.feeds)} feeds, {len(view.symbols)} symbols")


def _service(view: BusView, service: str, now: float) -> Check:
    instances = {name: entry for (of, name), entry in view.instances.items() if of == service}
    online = sorted(name for name, entry in instances.items() if entry.is_online(now, SILENCE_SECONDS))
    if online:
        return Check(service, ok=True, detail=f"online: {_some(online)}")
    away = f"of {len(instances)} known instances none is online" if instances else "no instance has been seen"
    return Check(service, ok=False, detail=away)


def _feeds(view: BusView, now: float, carried: frozenset[str]) -> Check:
    fresh = [name for name, feed in view.feeds.items() if feed.is_fresh(now, WATERMARK_SECONDS)]
    # What a dead gateway left behind is no trouble once others carry its symbols.
    failing = {
        name: feed for name, feed in view.feeds.items() if name not in fresh and not carried.issuperset(feed.carried)
    }
    if failing:
        return Check("feeds", ok=False, detail=_some([f"{n}: {_trouble(f, now)}" for n, f in sorted(failing.items())]))
    if not fresh:
        away = [f"{name}: {_trouble(feed, now)}" for name, feed in sorted(view.feeds.items())]
        return Check("feeds", ok=False, detail=f"no live feed ({_some(away)})" if away else "no live feed")
    return Check("feeds", ok=True, detail=f"live: {_some(sorted(fresh))}")


def _trouble(feed: FeedView, now: float) -> str:
    age = feed.age(now)
    if age is None:
        return f"{feed.state.state.value}, no watermark yet"
    return f"{feed.state.state.value}, watermark {age:.0f} s old"


def _symbols(view: BusView, now: float, carried: frozenset[str]) -> Check:
    rejected = {symbol for feed in view.feeds.values() for symbol in feed.state.rejected}
    alone = sorted(
        symbol
        for symbol, entry in view.symbols.items()
        if symbol not in carried and symbol not in rejected and now - entry.newest.at <= ABANDONED_SECONDS
    )
    if alone:
        return Check("symbols", ok=False, detail=f"no live feed carries {_some(alone)}")
    note = f"; rejected by Kraken: {_some(sorted(rejected))}" if rejected else ""
    return Check("symbols", ok=True, detail=f"{len(carried)} carried by live feeds{note}")


def _candles(view: BusView, now: float) -> Check:
    since: dict[str, float] = {}
    for feed in view.feeds.values():
        if feed.is_fresh(now, WATERMARK_SECONDS):
            since.update(dict.fromkeys(feed.state.symbols, feed.state.since))
    closes = {symbol: entry.newest.close_time for symbol, entry in view.symbols.items()}
    late = sorted(
        symbol for symbol, begin in since.items() if now - max(closes.get(symbol, begin), begin) > CANDLE_SECONDS
    )
    if late:
        return Check("candles", ok=False, detail=f"the feed is live, but there are no new candles of {_some(late)}")
    return Check("candles", ok=True, detail=f"{len(view.symbols)} symbols are up to date with their feeds")


def task_trouble(task: TaskState, now: float) -> str | None:
    """What is wrong with a task of the store at `now` (unix seconds); None if it does its work."""
    if not task.exists:
        return "is not there"
    if not task.active:
        return "is switched off"
    if task.error is not None:
        return f"failed: {task.error}"
    # A run is due at the boundary, and begins its offset later.
    seen = max((instant for instant in (task.since, task.last_run) if instant is not None), default=now)
    late = now - (seen + task.every + task.offset + TASK_SECONDS)
    return f"is {late:.0f} s late" if late > 0 else None


def _tasks(tasks: Sequence[TaskState], now: float) -> Check:
    found = [f"{task.name} {trouble}" for task in tasks if (trouble := task_trouble(task, now))]
    if found:
        return Check("tasks", ok=False, detail=_some(found))
    return Check("tasks", ok=True, detail=f"{len(tasks)} tasks run on time")


def _task_details(task: TaskState, now: float) -> dict[str, Any]:
    return {
        "task": task.name,
        "every_seconds": task.every,
        "last_run": None if task.last_run is None else rfc3339(task.last_run),
        "trouble": task_trouble(task, now),
    }


def _details(view: BusView, now: float, carried: frozenset[str]) -> dict[str, Any]:
    return {
        "at": rfc3339(now),
        "instances": [
            {
                "service": service,
                "instance": instance,
                "state": entry.status.state.value,
                "online": entry.is_online(now, SILENCE_SECONDS),
                "seen_seconds_ago": round(now - entry.seen_at, 3),
                "version": entry.status.version,
                "started_at": rfc3339(entry.status.started_at),
                "details": dict(entry.status.details),
            }
            for (service, instance), entry in sorted(view.instances.items())
        ],
        "feeds": [
            {
                "feed": name,
                "state": feed.state.state.value,
                "fresh": feed.is_fresh(now, WATERMARK_SECONDS),
                "since": rfc3339(feed.state.since),
                "watermark_age_seconds": _rounded(feed.age(now)),
                "symbols": len(feed.state.symbols),
                "rejected": dict(feed.state.rejected),
            }
            for name, feed in sorted(view.feeds.items())
        ],
        "symbols": [
            {
                "symbol": symbol,
                "live": symbol in carried,
                "closed_until": None if entry.closed_until is None else rfc3339(entry.closed_until),
                "at": rfc3339(entry.newest.at),
                "age_seconds": round(now - entry.newest.at, 3),
            }
            for symbol, entry in sorted(view.symbols.items())
        ],
        "dead_letters": [
            {"service": service, "count": e.count, "topic": e.topic, "reason": e.reason, "at": rfc3339(e.at)}
            for service, e in sorted(view.dead_letters.items())
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
