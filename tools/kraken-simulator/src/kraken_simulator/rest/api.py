"""The methods of the public API: validates requests and builds responses."""

import math
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate

from kraken_simulator.candles import INTERVALS
from kraken_simulator.exchange import Exchange
from kraken_simulator.limits import CallLimit
from kraken_simulator.market import Market
from kraken_simulator.pairs import ASSET_CLASSES, CURRENCY
from kraken_simulator.rest import listing, prices
from kraken_simulator.rest.envelope import (
    INVALID,
    THROTTLED,
    TOO_MANY,
    UNAVAILABLE,
    UNKNOWN_ASSET,
    UNKNOWN_METHOD,
    UNKNOWN_PAIR,
    RequestError,
    error_json,
    object_json,
    parse_since,
    parse_whole,
)
from kraken_simulator.rest.history import MAX_TRADES, ohlc_json, trades_json
from kraken_simulator.text import NANOS, rfc3339_seconds

Query = Mapping[str, str]

_SECONDS_LIMIT = 100_000_000_000
_DEFAULT_DEPTH = 100
_WITHOUT_STATUS = 7


class PublicApi:
    """Responds to requests, with a rate limit per client address and pair."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._calls = CallLimit(exchange.config.rest_rate, exchange.config.rest_burst)
        self._of_pair: Mapping[str, Callable[[Market, str, Query], str]] = {
            "OHLC": self._ohlc,
            "Trades": self._trades,
            "Depth": self._depth,
            "Spread": self._spread,
        }
        self._of_all: Mapping[str, Callable[[Query], str]] = {
            "Assets": self._assets,
            "AssetPairs": self._asset_pairs,
            "Ticker": self._ticker,
        }

    def respond(self, method: str, query: Query, address: str) -> str:
        """Return the response to a request as JSON. `address`: the client's, for the rate limit."""
        exchange, faults = self._exchange, self._exchange.faults
        now = int(exchange.clock())
        if faults.on("outage"):
            return error_json(UNAVAILABLE)
        if method == "SystemStatus":
            return object_json({"status": faults.system, "timestamp": rfc3339_seconds(now)})
        if faults.system == "maintenance":
            return error_json(UNAVAILABLE)
        if method == "Time":
            return object_json({"unixtime": now, "rfc1123": _rfc1123(now)})
        if method not in self._of_pair and method not in self._of_all:
            return error_json(UNKNOWN_METHOD)
        if faults.on("rest_limit"):
            return error_json(TOO_MANY)
        for fault in faults.of("throttled"):
            return error_json(f"{THROTTLED}: {math.ceil(fault.until)}")
        try:
            if method in self._of_all:
                return self._of_all[method](query)
            return self._about_a_pair(method, query, address)
        except RequestError as error:
            return error_json(str(error))

    def _about_a_pair(self, method: str, query: Query, address: str) -> str:
        market = self._market(query)
        if not self._calls.allows(f"{address} {market.pair.symbol}", self._exchange.clock()):
            raise RequestError(TOO_MANY)
        market.advance(self._exchange.now())
        return self._of_pair[method](market, self._key(market, query, query.get("pair", "")), query)

    # -- pairs and names -------------------------------------------------------------------------------------------

    def _market(self, query: Query) -> Market:
        if not query.get("pair"):
            raise RequestError(INVALID)
        return self._found(query["pair"], _asset_class(query, "asset_class"))

    def _found(self, name: str, asset_class: str) -> Market:
        market = self._exchange.directory.find(name, asset_class)
        if market is None:
            raise RequestError(UNKNOWN_PAIR)
        return market

    def _markets(self, query: Query, class_parameter: str) -> list[tuple[str, Market]]:
        """Return the requested markets, each with its name in the request."""
        asset_class = _asset_class(query, class_parameter)
        if not query.get("pair"):
            return [(market.pair.key, market) for market in self._exchange.directory.listed([asset_class])]
        names = [name.strip() for name in query["pair"].split(",")]
        return [(name, self._found(name, asset_class)) for name in names]

    def _key(self, market: Market, query: Query, name: str) -> str:
        if name == market.pair.symbol or self._exchange.faults.on_symbol("asked_key", market.pair.symbol):
            return name
        return listing.pair_key(market.pair, display_names=_display_names(query))

    # -- what there is ---------------------------------------------------------------------------------------------

    def _assets(self, query: Query) -> str:
        asset_class = _asset_class(query, "aclass")
        markets = self._exchange.directory.listed(ASSET_CLASSES)
        display_names = _display_names(query)
        found = {
            listing.asset_key(currency, display_names=display_names): listing.asset(currency, of_class)
            for currency, of_class in sorted(listing.currencies_of(market.pair for market in markets).items())
            if of_class == asset_class
        }
        if query.get("asset"):
            found = _chosen(found, query["asset"].split(","))
        return object_json(found)

    def _asset_pairs(self, query: Query) -> str:
        part = listing.PARTS.get(query.get("info", "info"))
        if part is None:
            raise RequestError(INVALID)
        display_names = _display_names(query)
        return object_json(
            {
                self._key(market, query, name): part(
                    listing.pair_info(market.pair, self._shown_status(market), display_names=display_names)
                )
                for name, market in self._markets(query, "aclass_base")
            }
        )

    def _shown_status(self, market: Market) -> str | None:
        symbol = market.pair.symbol
        hidden = self._exchange.faults.on_symbol("no_status", symbol)
        if hidden and tuple(self._exchange.markets).index(symbol) % _WITHOUT_STATUS == 0:
            return None
        return self._exchange.directory.status_of(market)

    # -- prices ----------------------------------------------------------------------------------------------------

    def _ticker(self, query: Query) -> str:
        now = self._exchange.now()
        rows = {}
        for name, market in self._markets(query, "asset_class"):
            market.advance(now)
            rows[self._key(market, query, name)] = prices.ticker_row(market, now)
        return object_json(rows)

    def _depth(self, market: Market, key: str, query: Query) -> str:
        count = parse_whole(query.get("count", str(_DEFAULT_DEPTH)), range(1, prices.MAX_DEPTH + 1))
        return prices.depth_json(market, key, count, int(self._exchange.clock()))

    def _spread(self, market: Market, key: str, query: Query) -> str:
        return prices.spread_json(market, key, parse_since(query.get("since")), int(self._exchange.clock()))

    def _ohlc(self, market: Market, key: str, query: Query) -> str:
        since = parse_since(query.get("since"))
        interval = query.get("interval", "1")
        if not interval.isdigit() or int(interval) not in INTERVALS:
            raise RequestError(INVALID)
        return ohlc_json(market, key, int(interval), int(self._exchange.clock()), since)

    def _trades(self, market: Market, key: str, query: Query) -> str:
        count = parse_whole(query.get("count", str(MAX_TRADES)), range(1, MAX_TRADES + 1))
        since = parse_since(query.get("since"))
        if since is not None and since < _SECONDS_LIMIT:
            since *= NANOS
        last = "" if self._exchange.faults.on_symbol("empty_last", market.pair.symbol) else None
        return trades_json(market, key, since, count, last_if_none=last)


def _asset_class(query: Query, parameter: str) -> str:
    asset_class = query.get(parameter, CURRENCY)
    if asset_class not in ASSET_CLASSES:
        raise RequestError(INVALID)
    return asset_class


def _display_names(query: Query) -> bool:
    version = query.get("assetVersion")
    if version not in (None, "1"):
        raise RequestError(INVALID)
    return version == "1"


def _chosen(found: Mapping[str, dict[str, object]], names: Iterable[str]) -> dict[str, dict[str, object]]:
    by_name = {str(row["altname"]): key for key, row in found.items()} | {key: key for key in found}
    keys = [by_name.get(name.strip()) for name in names]
    if None in keys:
        raise RequestError(UNKNOWN_ASSET)
    return {key: found[key] for key in keys if key is not None}


def _rfc1123(now: int) -> str:
    day, rest = formatdate(now).split(", ", 1)
    date, month, year, time, zone = rest.split(" ")
    return f"{day}, {date} {month} {year[2:]} {time} {zone.replace('-0000', '+0000')}"
