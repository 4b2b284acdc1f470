"""The beginning of an event stream: the present state, or the candles that a returning reader missed."""

from collections.abc import Sequence
from heapq import merge

from admin_api.candles.cache import CandleCache
from admin_api.candles.live import LiveCandles, Position, candle_event, reset_event
from admin_api.candles.subscription import Subscription
from ingress_common.model import Series
from ingress_store import StoreUnavailableError

OVERLAP_SECONDS = 120
"""A replay from the store begins this long before the reader's position, because candles close after their end."""

MAX_SERIES = 200
"""Maximum number of series in a replay from the store."""

MAX_CANDLES = 5_000
"""Maximum number of candles per series in a replay from the store."""

MAX_SHOWN = 20
"""Maximum number of series whose newest closed candle is read from the store, if the bus has only a forming one."""


async def beginning(
    live: LiveCandles, cache: CandleCache, subscription: Subscription, last_event_id: str, now: float
) -> list[bytes]:
    """The first events of a new stream, in the order of their ids; `subscription` already receives later ones.

    Without an id, a reader gets the newest closed and the forming candle of each series. With one, it gets the candles
    that followed the id, from memory; else the closed ones from the store; else an event `reset` and the state.
    """
    # Read the state before any await, so that no event is lost between it and the subscription.
    series = live.known(subscription.symbols, subscription.timeframes)
    state = live.state(series)
    here = live.position(now)
    events = [frame.event for frame in state]
    if not last_event_id:
        return await _newest(live, cache, series, subscription) + events
    position = Position.parse(last_event_id)
    if position is None:
        return [reset_event("the event id is unknown", here), *events]
    missed = live.missed(series, position)
    if missed is not None:
        return [frame.event for frame in missed]
    if not _is_small(series, position, now):
        return [reset_event("too much was missed", here), *events]
    try:
        replayed = await _replayed(live, cache, series, position)
    except StoreUnavailableError:
        return [reset_event("the store does not answer", here), *events]
    return [*replayed, *(frame.event for frame in state if not frame.closed)]


def _is_small(series: Sequence[Series], position: Position, now: float) -> bool:
    most = max((_windows(one, position, now) for one in series), default=0)
    return len(series) <= MAX_SERIES and most <= MAX_CANDLES


def _windows(series: Series, position: Position, now: float) -> float:
    return (max(now - position.time, 0) + OVERLAP_SECONDS) / series[1].seconds + 1


async def _replayed(live: LiveCandles, cache: CandleCache, series: Sequence[Series], position: Position) -> list[bytes]:
    """The closed candles that ended after the reader's position, oldest first."""
    found: list[list[tuple[int, bytes]]] = []
    for one in series:
        seconds = one[1].seconds
        start = position.time - OVERLAP_SECONDS - seconds + 1
        page = await cache.newest(one, start, None, MAX_CANDLES)
        found.append([(t + seconds, payload) for t, payload in zip(page.times, page.payloads, strict=True)])
    return [_event(live, end, payload) for end, payload in merge(*found)]


async def _newest(
    live: LiveCandles, cache: CandleCache, series: Sequence[Series], subscription: Subscription
) -> list[bytes]:
    """The newest closed candles that memory lacks: the bus retains one candle of a series, mostly the forming one."""
    unknown = [one for one in series if live.newest(one) is None]
    if subscription.symbols is None or len(unknown) > MAX_SHOWN:
        return []
    found: list[tuple[int, bytes]] = []
    try:
        for one in unknown:
            page = await cache.newest(one, None, None, 1)
            found += [(t + one[1].seconds, payload) for t, payload in zip(page.times, page.payloads, strict=True)]
    except StoreUnavailableError:
        # The next close brings them; the stream is useful without them.
        return []
    return [_event(live, end, payload) for end, payload in sorted(found)]


def _event(live: LiveCandles, end: int, payload: bytes) -> bytes:
    """The event of a candle from the store. Its number is 0: a reader that resumes from it is served by time."""
    return candle_event(Position(live.epoch, 0, end), payload)
