"""The report of `GET /health`: the checks, and the state that they examine."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from admin_api.admin.bodies import DeadLetterCountBody, FeedBody, InstanceBody, SymbolHealth, SystemHealth, TaskBody
from admin_api.admin.bootstrap import StoreMonitor
from admin_api.admin.checks import (
    candles_check,
    clock_check,
    data_check,
    feeds_check,
    losses_check,
    seeds_check,
    service_check,
    symbols_check,
    task_problem,
    tasks_check,
)
from admin_api.admin.ownership import OwnershipWatch, ownership
from admin_api.http.responses import Body, time_of
from admin_api.system.details import texts
from admin_api.system.state import SystemState
from admin_api.system.wanted import NewPairs, wanted
from ingress_common.health import Check, Health
from ingress_common.service_names import AGGREGATOR, GATEWAY, WRITER
from ingress_common.settings import PUBLISHED_SECRETS, SHORT_SECRETS
from ingress_common.times import rfc3339

WORKERS = (GATEWAY, AGGREGATOR, WRITER)
"""Services that need at least one online instance."""

_LOOK_SECONDS = 1.0
_UNSAFE_SECRETS = {
    PUBLISHED_SECRETS: "is the published secret of the repository; set one of your own (make env)",
    SHORT_SECRETS: "has fewer than 16 characters; set a long random one (make env)",
}


class Contribution(Protocol):
    """The part of another package in the report."""

    @property
    def body(self) -> type[Body]:
        """The type of its fields."""
        ...

    def checks(self, now: float) -> Sequence[Check]:
        """Its checks at `now` (unix seconds)."""
        ...

    def details(self) -> Body:
        """Its fields."""
        ...


class HealthReporter:
    """Builds reports from the system's state and the store's. `broker`: the check of the broker. `clock` in unix
    seconds.
    """

    def __init__(
        self,
        state: SystemState,
        broker: Callable[[], Check],
        monitor: StoreMonitor,
        contribution: Contribution,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._broker = broker
        self._monitor = monitor
        self._contribution = contribution
        self._clock = clock
        self._ownership = OwnershipWatch(state)
        self._new_pairs = NewPairs(state)

    async def run(self) -> None:
        """Follow the symbols until cancelled."""
        while True:
            self._look(self._clock())
            await asyncio.sleep(_LOOK_SECONDS)

    def _look(self, now: float) -> None:
        self._ownership.look(now)
        self._new_pairs.look(now)

    def process(self) -> Health:
        """The health of this process alone: ready when broker and store answer."""
        checks = (self._broker(), self._monitor.check)
        return Health(live=True, ready=all(check.ok for check in checks), checks=checks)

    def checks(self) -> tuple[Check, ...]:
        """Every check; a cause comes before its consequences."""
        state, now, tasks = self._state, self._clock(), self._monitor.tasks
        carried, expected, new = frozenset(state.live_since(now)), wanted(state, now), self._new_pairs.at(now)
        return (
            self._broker(),
            self._monitor.check,
            data_check(state, expected),
            clock_check(state, now),
            *(service_check(state, service, now) for service in WORKERS),
            feeds_check(state, now, carried, expected),
            symbols_check(state, now, carried, expected, new),
            seeds_check(state, now, expected, new),
            candles_check(state, now, expected),
            *([tasks_check(tasks, now)] if tasks else []),
            losses_check(state, now),
            self._ownership.check(now),
            *self._contribution.checks(now),
        )

    def report(self) -> tuple[SystemHealth, Body]:
        """The health of the system: the fields of this package, and those of the contribution."""
        state, now = self._state, self._clock()
        self._look(now)
        checks = self.checks()
        owners, problems = ownership(state, now)
        report = SystemHealth(
            status="ok" if all(check.ok for check in checks) else "failing",
            checks=checks,
            warnings=[*_warnings(state, now), *self._monitor.warnings],
            at=rfc3339(now),
            instances=_instances(state, now),
            feeds=_feeds(state, now),
            symbols=_symbols(state, now),
            dead_letters=[
                DeadLetterCountBody(service, entry.count, entry.topic, entry.reason, rfc3339(entry.at))
                for service, entry in sorted(state.dead_letters.items())
            ],
            tasks=[
                TaskBody(task.name, task.every, time_of(task.last_run), task_problem(task, now))
                for task in self._monitor.tasks
            ],
            ownership=owners,
            ownership_trouble=problems,
        )
        return report, self._contribution.details()


def _warnings(state: SystemState, now: float) -> list[str]:
    """Settings that are unsafe in production; they do not make the report red."""
    found = [
        f"{variable} of {service} {why}"
        for (service, _), entry in sorted(state.instances.items())
        if entry.is_online(now)
        for kind, why in _UNSAFE_SECRETS.items()
        for variable in texts(entry.status.details.get(kind))
    ]
    return list(dict.fromkeys(found))


def _instances(state: SystemState, now: float) -> list[InstanceBody]:
    return [
        InstanceBody(
            service=service,
            instance=instance,
            state=entry.status.state.value,
            online=entry.is_online(now),
            seen_seconds_ago=round(now - entry.seen_at, 3),
            version=entry.status.version,
            started_at=rfc3339(entry.status.started_at),
            details=dict(entry.status.details),
        )
        for (service, instance), entry in sorted(state.instances.items())
    ]


def _feeds(state: SystemState, now: float) -> list[FeedBody]:
    return [
        FeedBody(
            feed=name,
            state=feed.state.state.value,
            fresh=feed.is_fresh(now),
            since=rfc3339(feed.state.since),
            watermark_age_seconds=None if (age := feed.age(now)) is None else round(age, 3),
            symbols=len(feed.state.symbols),
            rejected=dict(feed.state.rejected),
        )
        for name, feed in sorted(state.feeds.items())
    ]


def _symbols(state: SystemState, now: float) -> list[SymbolHealth]:
    carried, expected = state.live_since(now), wanted(state, now).symbols
    return [
        SymbolHealth(
            symbol=name,
            live=name in carried,
            wanted=name in expected,
            closed_until=time_of(symbol.closed_until),
            at=rfc3339(symbol.at),
            age_seconds=round(now - symbol.at, 3),
        )
        for name, symbol in sorted(state.symbols.items())
        if symbol.at is not None
    ]
