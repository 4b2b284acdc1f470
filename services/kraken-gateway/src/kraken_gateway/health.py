"""The gateway's reports: `/health`, the details of its status, the gauges. Pure, except for the gauges."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ingress_common.health import Check, Health, some
from ingress_common.times import rfc3339
from kraken_gateway.live.feed import FeedReport, rejected_of
from kraken_gateway.metrics import GatewayMetrics

OVERLOADED_SECONDS = 10.0
"""Seconds that the oldest frame that is not yet published may have waited."""

UNKNOWN_AT_REST = "streamed, but Kraken's REST does not know the pair: its gaps cannot be filled"
"""What is wrong with a symbol that is live and that REST does not know."""

REST_SECONDS = 8.0
"""Seconds for which all REST calls may fail: without REST candles over a gap stay open."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The gateway's state at `now` (unix seconds, Kraken's time).

    `symbols`: the symbols that SYMBOLS selects, None while unknown; `owned`: our share of them, and since when.
    `distributed`: whether they are spread over feeds. `unknown_at_rest`: live symbols that REST does not know.
    `untraded`: symbols that have never traded. A problem is an empty text if there is none.
    """

    now: float
    patterns: Collection[str]
    broker_problem: str
    symbols: frozenset[str] | None
    owned: Mapping[str, float]
    distributed: bool
    reports: Collection[FeedReport]
    stale: frozenset[str]
    unknown_at_rest: frozenset[str]
    untraded: frozenset[str]
    pairs: int
    pairs_problem: str
    rest_problem: str
    rest_failing: float
    backfill_pending: int
    backfill_oldest: float
    seeds_pending: int
    attempts: int
    attempts_limit: int
    attempts_text: str
    attempts_wait: float
    skew: float

    @property
    def lag(self) -> float:
        """Seconds for which the oldest frame that is not yet published has waited, over all feeds."""
        return max((report.lag for report in self.reports), default=0.0)

    @property
    def overloaded(self) -> tuple[str, ...]:
        """The feeds that are too far behind."""
        return tuple(report.name for report in self.reports if report.lag > OVERLOADED_SECONDS)

    @property
    def suspect(self) -> tuple[str, ...]:
        """The symbols that are inactive for longer than is usual for them."""
        return tuple(sorted(symbol for report in self.reports for symbol in report.suspect))

    @property
    def excluded(self) -> tuple[str, ...]:
        """The symbols that are left out of the coverage until they are verified."""
        return tuple(sorted(symbol for report in self.reports for symbol in report.excluded))


def health_of(state: GatewayState) -> Health:
    """Ready if a feed is live (or no symbol is to be carried), no feed is too far behind, and gaps can be filled."""
    checks = [
        _symbols(state),
        Check("broker", not state.broker_problem, state.broker_problem or "connected"),
        # If the list is known or not needed, its connection may be down for a while.
        Check(
            "pairs",
            not state.pairs_problem or state.symbols is not None,
            state.pairs_problem or f"{state.pairs} at Kraken",
        ),
        _clock(state.skew),
        Check("connections", not state.attempts_wait, state.attempts_text),
        _load(state),
    ]
    for report in state.reports:
        detail = f"{len(report.state.symbols)} of {len(report.wanted)} symbols" if report.live else report.problem
        checks.append(Check(f"feed {report.name}", report.live or report.idle, detail))
    checks.append(_subscriptions(state))
    for symbol, reason in rejected_of(state.reports).items():
        # Kraken's decision is no fault of this gateway, and no operator can change it.
        checks.append(Check(f"symbol {symbol}", ok=True, detail=f"not carried: {reason}"))
    unknown = sorted(state.unknown_at_rest)
    checks.extend(Check(f"symbol {symbol}", ok=False, detail=UNKNOWN_AT_REST) for symbol in unknown)
    if state.rest_problem:
        checks.append(Check("rest", ok=False, detail=state.rest_problem))
    some_live = any(report.live for report in state.reports)
    nothing_to_do = bool(state.symbols) and state.distributed and all(report.idle for report in state.reports)
    ready = (
        (some_live or nothing_to_do)
        and not state.overloaded
        and not state.broker_problem
        and state.rest_failing <= REST_SECONDS
    )
    return Health(live=True, ready=ready, checks=tuple(checks))


def details_of(state: GatewayState) -> Mapping[str, Any]:
    """The details of the retained status."""
    health = health_of(state)
    return {
        "feeds": {report.name: report.state.state.value for report in state.reports},
        "symbols": sum(len(report.state.symbols) for report in state.reports),
        "wanted": len(state.owned),
        "rejected": rejected_of(state.reports),
        "connection_attempts": state.attempts,
        "connection_attempts_limit": state.attempts_limit,
        "owned_since": {symbol: rfc3339(since) for symbol, since in sorted(state.owned.items())},
        "suspect": list(state.suspect),
        "excluded": list(state.excluded),
        "stale": sorted(state.stale),
        "unknown_at_rest": dict.fromkeys(sorted(state.unknown_at_rest), UNKNOWN_AT_REST),
        "untraded": sorted(state.untraded),
        "patterns": list(state.patterns) if state.symbols is not None and state.distributed else [],
        "lag_seconds": round(state.lag, 1),
        "overloaded": list(state.overloaded),
        "kraken_time": rfc3339(state.now),
        "clock_skew_seconds": round(state.skew, 1),
        "ready": health.ready,
        "problems": health.problems,
    }


def set_gauges(state: GatewayState, metrics: GatewayMetrics) -> None:
    """Set the gauges to `state`."""
    metrics.attempts.set(state.attempts)
    metrics.attempts_limit.set(state.attempts_limit)
    metrics.skew.set(state.skew)
    metrics.rejected.set(len(rejected_of(state.reports)))
    metrics.suspect.set(len(state.suspect))
    metrics.excluded.set(len(state.excluded))
    metrics.stale.set(len(state.stale))
    metrics.seeds_pending.set(state.seeds_pending)
    metrics.backfill_pending.set(state.backfill_pending)
    metrics.backfill_oldest.set(state.backfill_oldest)
    metrics.keep_feeds([report.name for report in state.reports])
    for report in state.reports:
        metrics.inactivity.labels(report.name).set(report.longest_inactivity)
        metrics.feed_backlog.labels(report.name).set(report.backlog)
        metrics.feed_lag.labels(report.name).set(report.lag)
        metrics.watermark(report.name, report.watermark, state.now)


def _symbols(state: GatewayState) -> Check:
    if state.symbols is None:
        return Check("symbols", ok=False, detail=state.pairs_problem)
    if not state.symbols:
        patterns = ",".join(state.patterns)
        return Check("symbols", ok=False, detail=f"SYMBOLS {patterns} matches none of Kraken's pairs")
    return Check("symbols", ok=True, detail=f"{len(state.owned)} of {len(state.symbols)} are ours")


def _clock(skew: float) -> Check:
    side = "ahead of" if skew > 0 else "behind"
    # Shown, but no failure: no time stamp depends on this clock.
    return Check("clock", ok=True, detail=f"{abs(skew):.1f} s {side} Kraken's" if abs(skew) >= 0.05 else "right")


def _load(state: GatewayState) -> Check:
    if not state.overloaded:
        return Check("load", ok=True, detail=f"at most {state.lag:.1f} s behind")
    waiting = sum(report.backlog for report in state.reports)
    detail = (
        f"{', '.join(state.overloaded)}: {state.lag:.0f} s behind with {waiting} frames to publish; "
        "candles come late. Start another kraken-gateway instance: they share the symbols"
    )
    return Check("load", ok=False, detail=detail)


def _subscriptions(state: GatewayState) -> Check:
    if not state.suspect and not state.stale:
        return Check("subscriptions", ok=True, detail="none is suspect")
    parts = {"suspect": state.suspect, "excluded until verified": state.excluded, "stale": state.stale}
    detail = "; ".join(f"{what}: {some(sorted(symbols), _SHOWN)}" for what, symbols in parts.items() if symbols)
    return Check("subscriptions", ok=not state.excluded and not state.stale, detail=detail)
