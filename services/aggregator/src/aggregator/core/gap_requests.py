"""Requests to the gateway: seeds, and the history of gaps, repeated until it arrives."""

from collections import defaultdict
from dataclasses import dataclass, field

from aggregator.core.coverage import Intervals
from aggregator.core.series import CandleSeries
from ingress_common.model import Candle, History, HistoryRequest, Range, Source
from ingress_common.timeframes import Timeframe

REQUESTED = frozenset({Source.REST, Source.TRADES})
"""Sources of history that is published only on request."""

LATE = 300.0
"""Seconds before a gap that are requested with it: Kraken may have updated an earlier minute late, within the gap."""

_NEIGHBOURS = 3_600.0
"""Seconds between two gaps of minutes up to which they are requested together."""

_SEED_REPEAT_SECONDS = 15.0
_GAP_REPEAT_SECONDS = (5.0, 10.0, 20.0)  # after the first request, the second, and each later one

NO_GAPS = float("inf")
"""`check_gaps_at` of a series without gaps."""

_M1 = Timeframe.M1

_Requested = dict[Timeframe, Intervals]


@dataclass(slots=True)
class _Symbol:
    """What was requested for a symbol, and when to repeat it (`repeat_at`, on the symbol's clock).

    `found`: the gaps as `CandleSeries.gaps` last returned them, the same object while they do not change; `gaps`: their
    ranges, `oldest_end`: the end of the first, `requests`: the requests for all of them. `unanswered`: what was
    requested and has not arrived. `attempt`: how often these gaps were requested, as an index of
    `_GAP_REPEAT_SECONDS`.
    """

    repeat_at: float = float("-inf")
    attempt: int = 0
    found: list[tuple[Timeframe, Range]] = field(default_factory=list)
    gaps: _Requested = field(default_factory=dict)
    oldest_end: float = float("-inf")
    requests: list[HistoryRequest] = field(default_factory=list)
    unanswered: defaultdict[Timeframe, Intervals] = field(default_factory=lambda: defaultdict(Intervals))


class GapRequests:
    """Requests to the gateway. A new gap is requested at once, then with growing pauses.

    `give_up_after`: seconds on a symbol's clock after which to give up on a gap; None for never.
    """

    def __init__(self, give_up_after: float | None) -> None:
        self._give_up_after = give_up_after
        self._symbols: dict[str, _Symbol] = {}

    def forget(self, symbol: str) -> None:
        """Forget the requests for a symbol: no gateway may have received them."""
        self._symbols.pop(symbol, None)

    def _symbol(self, symbol: str) -> _Symbol:
        state = self._symbols.get(symbol)
        if state is None:
            state = self._symbols[symbol] = _Symbol()
        return state

    def wants_seed(self, series: CandleSeries, clock: float) -> bool:
        """Whether to request a seed for `series` at `clock` (unix seconds)."""
        if series.seeded:
            return False
        state = self._symbol(series.symbol)
        if clock < state.repeat_at:
            return False
        state.repeat_at = clock + _SEED_REPEAT_SECONDS
        return True

    def request(self, series: CandleSeries, at: float) -> list[Candle | HistoryRequest]:
        """Request what `series` lacks, and give up on gaps that are too old and were requested without success.

        Returns the candles that close because of the latter, then the requests.
        """
        gaps = series.gaps()
        state = self._symbol(series.symbol)
        repeat = series.clock >= state.repeat_at
        closed = self._give_up(series, gaps, state, at) if repeat else []
        if closed:
            gaps = series.gaps()
        if not gaps:
            # Before the start none can be found, and the seed is still to be requested.
            if series.initialized:
                series.check_gaps_at = NO_GAPS
                state.found, state.gaps, state.requests, state.repeat_at = gaps, {}, [], float("inf")
            return list(closed)
        if gaps is not state.found:
            new = [gap for gap in gaps if not _covers(state.gaps, *gap)]
            state.found, state.gaps, state.oldest_end = gaps, _union(gaps), min(span.end for _, span in gaps)
            state.requests = _requests(series.symbol, gaps)
            if new:
                state.attempt = 0
            requests = state.requests if repeat else _requests(series.symbol, new)
        else:
            requests = state.requests if repeat else []
        series.check_gaps_at = state.repeat_at
        if not requests:
            return list(closed)
        state.repeat_at = series.check_gaps_at = series.clock + _GAP_REPEAT_SECONDS[state.attempt]
        state.attempt = min(state.attempt + 1, len(_GAP_REPEAT_SECONDS) - 1)
        for request in requests:
            state.unanswered[request.timeframe].add(request.start, request.end)
        return [*closed, *requests]

    def _give_up(
        self, series: CandleSeries, gaps: list[tuple[Timeframe, Range]], state: _Symbol, at: float
    ) -> list[Candle]:
        if self._give_up_after is None or (
            gaps is state.found and state.oldest_end >= series.clock - self._give_up_after
        ):
            return []
        closed = []
        for timeframe, span in gaps:
            if span.end < series.clock - self._give_up_after and _covers(state.gaps, timeframe, span):
                closed += series.give_up(timeframe, span, at)
        return closed

    def take_response(self, history: History) -> list[tuple[float, float]]:
        """Process a received `history`. Returns the parts of its range that another client must have requested."""
        covers = history.covers
        state = self._symbols.get(history.symbol)
        unanswered = state.unanswered.get(history.timeframe) if state else None
        if unanswered is None:
            return [(covers.start, covers.end)]
        others = unanswered.gaps(covers.start, covers.end)
        unanswered.remove(covers.start, covers.end)
        return others


def _union(spans: list[tuple[Timeframe, Range]]) -> _Requested:
    union: _Requested = {}
    for timeframe, span in spans:
        union.setdefault(timeframe, Intervals()).add(span.start, span.end)
    return union


def _requests(symbol: str, gaps: list[tuple[Timeframe, Range]]) -> list[HistoryRequest]:
    wanted = _union([_with_margin(*gap) for gap in gaps])
    if minutes := wanted.get(_M1):
        wanted[_M1] = _together(minutes)
    return [HistoryRequest((symbol,), timeframe, *span) for timeframe, spans in wanted.items() for span in spans]


def _together(gaps: Intervals) -> Intervals:
    """Gaps of minutes, with the time between neighbours: hours or a minute, the gateway needs one REST call."""
    together = Intervals()
    until = None
    for start, end in gaps:
        together.add(start if until is None or start > until + _NEIGHBOURS else until, end)
        until = end
    return together


def _with_margin(timeframe: Timeframe, gap: Range) -> tuple[Timeframe, Range]:
    return timeframe, Range(gap.start - LATE, gap.end) if timeframe is _M1 else gap


def _covers(requested: _Requested, timeframe: Timeframe, span: Range) -> bool:
    return timeframe in requested and requested[timeframe].covers(span.start, span.end)
