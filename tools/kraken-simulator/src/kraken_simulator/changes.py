"""Changes of a pair: listing, delisting, renaming, other decimals, another status."""

from dataclasses import replace
from decimal import Decimal

from kraken_simulator.directory import DELISTED, Directory
from kraken_simulator.errors import FaultError
from kraken_simulator.faults import FaultRequest
from kraken_simulator.market import Market
from kraken_simulator.profiles import Profile, profile_of
from kraken_simulator.sources.synthetic import SyntheticSource
from kraken_simulator.text import NANOS

FIRST_STATUS = "limit_only"
"""The status of a new listing."""


class Changes:
    """Applies changes to pairs. `seed`: the seed of the synthetic markets."""

    def __init__(self, directory: Directory, seed: int) -> None:
        self._directory = directory
        self._seed = seed

    def make(self, request: FaultRequest, now: int) -> FaultRequest:
        """Apply a change at `now` (unix nanoseconds) and return the change that reverts it. FaultError on failure."""
        symbol = request.symbol or ""
        if request.kind == "list":
            return self._list(symbol, request, now)
        market = self._directory.markets.get(symbol)
        if market is None:
            message = f"symbol: expected a pair that exists, was {symbol!r}"
            raise FaultError(message)
        if request.kind == "rename":
            return self._rename(market, request.to or "", now)
        if request.kind == "reprecision":
            return self._reprecision(market, request)
        before, market.status = market.status, request.status or DELISTED
        return self._status_undo(symbol, before)

    def _list(self, symbol: str, request: FaultRequest, now: int) -> FaultRequest:
        market = self._directory.markets.get(symbol)
        if market is not None and market.status != DELISTED:
            message = f"symbol: expected a pair that is not listed, was {symbol!r}"
            raise FaultError(message)
        if market is None:
            source = SyntheticSource(_profile(symbol, request), seed=self._seed, epoch=now // NANOS, history=())
            market = Market(source)
            market.halted = True
            market.advance(now)
            self._directory.add(market)
        market.status = request.status or FIRST_STATUS
        return FaultRequest("delist", symbol)

    def _rename(self, market: Market, to: str, now: int) -> FaultRequest:
        symbol = market.pair.symbol
        if to in self._directory.markets:
            message = f"to: expected a name that no pair has, was {to!r}"
            raise FaultError(message)
        market.advance(now)
        self._directory.rename(symbol, to, now)
        return FaultRequest("rename", to, to=symbol)

    def _reprecision(self, market: Market, request: FaultRequest) -> FaultRequest:
        before = market.pair
        price = before.price_decimals if request.price_decimals is None else request.price_decimals
        quantity = before.qty_decimals if request.qty_decimals is None else request.qty_decimals
        market.set_decimals(price, quantity)
        return FaultRequest(
            "reprecision", before.symbol, price_decimals=before.price_decimals, qty_decimals=before.qty_decimals
        )

    def _status_undo(self, symbol: str, before: str) -> FaultRequest:
        if before == DELISTED:
            return FaultRequest("delist", symbol)
        return FaultRequest("status", symbol, status=before)


def _profile(symbol: str, request: FaultRequest) -> Profile:
    profile = profile_of(symbol)
    pair = profile.pair
    price = pair.price_decimals if request.price_decimals is None else request.price_decimals
    quantity = pair.qty_decimals if request.qty_decimals is None else request.qty_decimals
    return replace(
        profile,
        pair=replace(pair, price_decimals=price, qty_decimals=quantity),
        price=profile.price if request.price is None else Decimal(str(request.price)),
        trades_per_minute=request.trades_per_minute or profile.trades_per_minute,
    )
