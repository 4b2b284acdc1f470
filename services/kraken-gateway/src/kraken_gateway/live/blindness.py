"""Connections that bring nothing of a symbol that trades: who was found so, and when a new connection is worth it."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ingress_common.logs import get_logger
from kraken_gateway.live.feed import Feed
from kraken_gateway.metrics import GatewayMetrics

RESTART_PAUSES = (60.0, 600.0)
"""Seconds between two restarts for the sake of one symbol: at first, doubling, and at most."""

_FORGIVEN_SECONDS = 1200.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Restart:
    """A feed was restarted at `at` for a symbol of which `newest` was told; not again for `pause` (steady seconds)."""

    newest: tuple[int, int]
    at: float
    pause: float


class Blindness:
    """Restarts feeds that are blind for a symbol.

    A symbol that is still blind on the new connection stays withheld, and does not cost the others of its feed their
    connection over and over. `steady` is a clock that never steps (seconds).
    """

    def __init__(self, metrics: GatewayMetrics, steady: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._steady = steady
        self._restarts: dict[str, _Restart] = {}
        self._blind: set[str] = set()

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols that are known not to be heard at present."""
        return frozenset(self._blind)

    def is_disputed(self, symbol: str, newest: tuple[int, int]) -> bool:
        """Whether a new connection has not brought `newest` (open time, trades) either, for which it was made.

        Then Kraken's back ends differ, and nobody is blind.
        """
        restart = self._restarts.get(symbol)
        return restart is not None and newest <= restart.newest

    def found(self, feed: Feed, symbol: str, newest: tuple[int, int]) -> None:
        """`feed` has not heard of the trades of `symbol` up to `newest`."""
        now = self._steady()
        if symbol not in self._blind:
            log.warning("symbol.blind", feed=feed.name, symbol=symbol)
            self._metrics.blind.inc()
        self._blind.add(symbol)
        last = self._restarts.get(symbol)
        if last is not None and now - last.at >= _FORGIVEN_SECONDS:
            last = None
        if last is None or now - last.at >= last.pause:
            pause = RESTART_PAUSES[0] if last is None else min(2 * last.pause, RESTART_PAUSES[1])
            self._restarts[symbol] = _Restart(newest, now, pause)
            feed.restart("blind")

    def over(self, symbol: str) -> None:
        """`symbol` is heard."""
        self._blind.discard(symbol)

    def keep(self, symbols: Collection[str]) -> None:
        """Forget every symbol but `symbols`."""
        self._blind &= set(symbols)
        self._restarts = {symbol: restart for symbol, restart in self._restarts.items() if symbol in symbols}
