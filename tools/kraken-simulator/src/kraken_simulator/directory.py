"""The pairs of the exchange: existing ones with all their names, and former names."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from kraken_simulator.faults import HALTED_STATUSES, FaultBoard
from kraken_simulator.market import Market

DELISTED = "delisted"


class Directory:
    """The markets by symbol and by every REST name."""

    def __init__(self, markets: Mapping[str, Market], faults: FaultBoard) -> None:
        self._markets = dict(markets)
        self._faults = faults
        self._former: dict[str, tuple[Market, int]] = {}
        self._names: dict[str, Market] = {}
        self._index()

    @property
    def markets(self) -> Mapping[str, Market]:
        """All markets by their current symbol, including delisted ones."""
        return MappingProxyType(self._markets)

    def add(self, market: Market) -> None:
        """Add a new market."""
        self._markets[market.pair.symbol] = market
        self._index()

    def rename(self, symbol: str, to: str, now: int) -> None:
        """Rename a market at `now` (unix nanoseconds)."""
        market = self._markets.pop(symbol)
        market.rename(to)
        self._markets[to] = market
        self._former.pop(to, None)
        self._former[symbol] = market, now
        self._index()

    def _index(self) -> None:
        self._names = {name: market for market in self._markets.values() for name in market.pair.names}

    # -- who exists ------------------------------------------------------------------------------------------------

    def is_listed(self, symbol: str) -> bool:
        """Return whether a pair currently exists."""
        market = self._markets.get(symbol)
        return market is not None and market.status != DELISTED and not self._faults.on_symbol("unlisted", symbol)

    def listed(self, asset_classes: Iterable[str]) -> tuple[Market, ...]:
        """Return the existing markets of some asset classes."""
        wanted = frozenset(asset_classes)
        return tuple(
            market
            for symbol, market in self._markets.items()
            if market.pair.asset_class in wanted and self.is_listed(symbol)
        )

    def find(self, name: str, asset_class: str) -> Market | None:
        """Return the existing market with a REST name in an asset class; None if there is none."""
        market = self._names.get(name)
        if market is None or market.pair.asset_class != asset_class or not self.is_listed(market.pair.symbol):
            return None
        return market

    def status_of(self, market: Market) -> str:
        """Return the status of a pair: the exchange's unless that is online, else the pair's own."""
        if not self.is_listed(market.pair.symbol):
            return DELISTED
        return market.status if self._faults.system == "online" else self._faults.system

    def halts(self, market: Market) -> bool:
        """Return whether a market currently does not trade."""
        halted = self._faults.system != "online" or market.status in HALTED_STATUSES
        return halted or not self.is_listed(market.pair.symbol)

    def truth_of(self, symbol: str) -> tuple[Market, int] | None:
        """Return the market of a current or former symbol, and the end of that name's use (unix nanoseconds)."""
        market = self._markets.get(symbol)
        return (market, 2**62) if market is not None else self._former.get(symbol)
