"""Kraken's REST: pairs, OHLC and Trades (`kraken-protocol.md`, REST).

Responses are decoded into the structs below; a malformed row fails the call.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import TypeVar

import httpx
import msgspec

from ingress_common.logs import get_logger
from ingress_common.proxies import route_to
from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.protocol import ONLINE, IntervalRow
from kraken_gateway.kraken.unreachable import unreachable
from kraken_gateway.metrics import GatewayMetrics

CALL_GAP = 1.0
"""Seconds between calls for one pair."""

LONGEST_GAP = 8.0
"""Seconds between calls for one pair when Kraken wants fewer calls for it."""

CONCURRENCY = 4
"""Calls at the same time, over all pairs."""

PAGE = 1000
"""Trades requested at once."""

ASSET_CLASSES = ("currency", "tokenized_asset")
"""The classes whose pairs are listed, each by a call of its own; REST returns the first class by default."""

_PAIRS_SECONDS = 60.0
_TIMEOUT = 10.0
_TIME_TIMEOUT = 4.0
_TOO_MANY = ("EGeneral:Too many requests", "EAPI:Rate limit exceeded")
_THROTTLED = "EService:Throttled"
_LONGEST_THROTTLED = 600.0
_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_LIMIT = Decimal("1e20")
_POSITION_DIGITS = 19
_T = TypeVar("_T")

log = get_logger(__name__)


class RestError(Exception):
    """A call that may succeed later: a network error, a busy or failing Kraken, a malformed response."""


class KrakenAilingError(RestError):
    """Kraken as a whole is unreachable or failing: no other call would succeed now."""


class TooManyRequestsError(RestError):
    """Kraken wants fewer calls for this pair."""


class ThrottledError(TooManyRequestsError):
    """Kraken wants no call at all before `until` (unix seconds, Kraken's time)."""

    def __init__(self, text: str, until: float) -> None:
        super().__init__(text)
        self.until = until


class InvalidArgumentsError(RestError):
    """Kraken rejects the call's arguments."""


class UnknownPairError(Exception):
    """Kraken does not know the pair."""


class Pair(msgspec.Struct, frozen=True):
    """REST's `name` of a pair, its price decimals, its status as in `protocol`, and its asset class."""

    name: str
    price_decimals: int
    status: str = ONLINE
    asset_class: str = ASSET_CLASSES[0]


class OhlcRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row of OHLC; `open_time` in unix seconds. `trades` 0 marks a row that Kraken infilled (fact 3)."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    vwap: Decimal
    volume: Decimal
    trades: int

    def row(self, symbol: str, timeframe: Timeframe) -> IntervalRow:
        """The same as a row of the WebSocket. In a row that Kraken infilled the vwap is 0."""
        vwap = self.vwap if self.trades else self.close
        prices = (self.open, self.high, self.low, self.close)
        return IntervalRow.of(symbol, timeframe, self.open_time, prices, self.volume, vwap, self.trades)


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade; `time` in unix seconds, exact. `number` is 0 in old responses, which have none."""

    number: int
    time: Decimal
    price: Decimal
    volume: Decimal


class TradePage(msgspec.Struct, frozen=True):
    """Consecutive trades, and `last`: the position (ns) of the next page; None if there is none."""

    trades: tuple[Trade, ...]
    last: int | None


class _TradeRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    price: Decimal
    volume: Decimal
    time: Decimal
    side: str
    type: str
    misc: str
    number: int = 0


class _Envelope(msgspec.Struct, frozen=True):
    error: list[str] = []
    result: msgspec.Raw = msgspec.Raw()


class KrakenRest:
    """REST calls at Kraken's pace. RestError: retry later. UnknownPairError: do not retry.

    `clock` learns from the date of each response.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, metrics: GatewayMetrics, clock: KrakenClock) -> None:
        self._url = url
        self._client = client
        self._metrics = metrics
        self._clock = clock
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._pairs: dict[str, Pair] = {}
        self._pairs_at = float("-inf")
        self._pairs_changed = True
        self._pairs_lock = asyncio.Lock()
        self._next_call: dict[str, float] = {}
        self._gaps: dict[str, float] = {}
        self._throttled_until = float("-inf")
        self.responded_at = float("-inf")
        """When the last result arrived (seconds of the loop's clock)."""

    def ready_at(self, symbol: str) -> float:
        """When the pair of `symbol` may be requested next without waiting (seconds of the loop's clock)."""
        pair = self._pairs.get(symbol)
        return max(self._next_call.get(pair.name, float("-inf")) if pair else float("-inf"), self._throttled_until)

    def knows(self, symbol: str) -> bool:
        """Whether Kraken's list contains `symbol`, or may contain it by now."""
        return self._pairs_changed or symbol in self._pairs

    def pairs_changed(self) -> None:
        """Refresh the pairs before the next call, because they may have changed."""
        self._pairs_changed = True

    async def pair(self, symbol: str) -> Pair:
        """The pair of `symbol`; UnknownPairError if REST does not know it."""
        async with self._pairs_lock:
            now = asyncio.get_running_loop().time()
            if self._pairs_changed or (symbol not in self._pairs and now - self._pairs_at >= _PAIRS_SECONDS):
                await self.pairs()
            if symbol not in self._pairs:
                raise UnknownPairError(f"Kraken's AssetPairs has no {symbol}")
            return self._pairs[symbol]

    async def pairs(self) -> dict[str, Pair]:
        """Every pair of every asset class by its WebSocket v2 name, read now."""
        self._pairs_changed = False
        try:
            found: dict[str, Pair] = {}
            for asset_class in ASSET_CLASSES:
                found |= await self._pairs_of(asset_class)
            if not found:
                raise RestError("expected pairs in Kraken's AssetPairs, got none")
        except BaseException:
            self._pairs_changed = True
            raise
        self._pairs, self._pairs_at = found, asyncio.get_running_loop().time()
        return found

    async def _pairs_of(self, asset_class: str) -> dict[str, Pair]:
        if asset_class == ASSET_CLASSES[0]:
            return parse_pairs(await self._call("AssetPairs", {}, "AssetPairs"))
        try:
            return parse_pairs(
                await self._call("AssetPairs", {"aclass_base": asset_class}, f"AssetPairs {asset_class}")
            )
        except InvalidArgumentsError as error:
            # This Kraken does not have the asset class.
            log.info("pairs.no-class", asset_class=asset_class, error=str(error))
            return {}

    async def time(self) -> None:
        """The lightest call: it shows whether Kraken responds."""
        await self._call("Time", {}, "Time", _TIME_TIMEOUT)

    async def ohlc(self, pair: Pair, timeframe: Timeframe, since: int) -> tuple[OhlcRow, ...]:
        """The candles that open after `since` (unix seconds), oldest first: at most 720, and the forming one last."""
        return parse_ohlc(await self._call_for(pair, "OHLC", interval=timeframe.minutes, since=since), timeframe)

    async def trades(self, pair: Pair, since: int) -> TradePage:
        """Trades after `since` (ns), oldest first."""
        return parse_trades(await self._call_for(pair, "Trades", since=since, count=PAGE))

    async def first_trade(self, pair: Pair) -> Trade | None:
        """The first trade of the pair; None if it has never traded."""
        trades = parse_trades(await self._call_for(pair, "Trades", since=0, count=1)).trades
        return trades[0] if trades else None

    async def _call_for(self, pair: Pair, endpoint: str, **parameters: int) -> msgspec.Raw:
        names = {"pair": pair.name}
        if pair.asset_class != ASSET_CLASSES[0]:
            names["asset_class"] = pair.asset_class
        try:
            return await self._call(endpoint, {**names, **parameters}, pair.name)
        except UnknownPairError as error:
            # The list contained it, so the list has changed.
            self.pairs_changed()
            raise RestError(f"{error} {pair.name}") from None

    async def _call(
        self, endpoint: str, parameters: Mapping[str, str | int], key: str, seconds: float = _TIMEOUT
    ) -> msgspec.Raw:
        await self._wait_turn(key)
        async with self._slots:
            self._metrics.rest_requests.labels(endpoint).inc()
            try:
                # httpx limits each read, not the whole response.
                async with asyncio.timeout(seconds):
                    response = await self._client.get(
                        f"{self._url}/0/public/{endpoint}", params=dict(parameters), timeout=None
                    )
            except TimeoutError:
                raise KrakenAilingError(f"no response from {route_to(self._url)} within {seconds:.0f} s") from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise KrakenAilingError(unreachable(self._url, error)) from None
        if (date := parse_date(response.headers.get("date", ""))) is not None:
            self._clock.date(date)
        try:
            result = parse_envelope(response.status_code, response.content)
        except ThrottledError as error:
            wait = min(max(CALL_GAP, error.until - self._clock.now()), _LONGEST_THROTTLED)
            self._throttled_until = asyncio.get_running_loop().time() + wait
            raise
        except TooManyRequestsError:
            self._slow_down(key)
            raise
        self.responded_at = asyncio.get_running_loop().time()
        if self._gaps.pop(key, None):
            self._next_call[key] = self.responded_at + CALL_GAP
        return result

    def _slow_down(self, key: str) -> None:
        gap = self._gaps[key] = min(LONGEST_GAP, 2 * self._gaps.get(key, CALL_GAP))
        self._next_call[key] = asyncio.get_running_loop().time() + gap

    async def _wait_turn(self, key: str) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for old in [name for name, at in self._next_call.items() if at <= now]:
            del self._next_call[old]
        turn = max(now, self._throttled_until, self._next_call.get(key, now))
        self._next_call[key] = turn + self._gaps.get(key, CALL_GAP)
        await asyncio.sleep(turn - now)


# --- responses --------------------------------------------------------------------------------------------------------


def parse_date(text: str) -> float | None:
    """The date in a response's headers (unix seconds); None without one."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_envelope(status: int, body: bytes) -> msgspec.Raw:
    """The `result` of a response. Kraken sends errors with HTTP 200 and a list of texts."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise TooManyRequestsError("Kraken responded: HTTP 429")
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except msgspec.ValidationError as error:
        raise RestError(f"expected an error list and a result from Kraken, got HTTP {status} and {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise KrakenAilingError(
            f"expected JSON from Kraken, got HTTP {status} and {len(body)} bytes of something else"
        ) from None
    texts = ", ".join(envelope.error)
    if any(text.startswith("EQuery:Unknown asset pair") for text in envelope.error):
        raise UnknownPairError(texts)
    for text in envelope.error:
        if text.startswith(_THROTTLED):
            raise ThrottledError(f"Kraken responded: {texts}", _until(text))
    if any(text.startswith(_TOO_MANY) for text in envelope.error):
        raise TooManyRequestsError(f"Kraken responded: {texts}")
    if any(text.startswith("EService:") for text in envelope.error):
        raise KrakenAilingError(f"Kraken responded: {texts}")
    if any(text.startswith("EGeneral:Invalid arguments") for text in envelope.error):
        raise InvalidArgumentsError(f"Kraken responded: {texts}")
    if envelope.error:
        raise RestError(f"Kraken responded: {texts}")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise KrakenAilingError(f"expected a result from Kraken, got HTTP {status}")
    if status != httpx.codes.OK or not bytes(envelope.result):
        raise RestError(f"expected a result from Kraken, got HTTP {status}")
    return envelope.result


def _until(text: str) -> float:
    """The unix seconds at the end of `EService:Throttled: 1796000000`; 0 if there are none."""
    try:
        until = float(text.rpartition(":")[2])
    except ValueError:
        return 0.0
    return until if isfinite(until) else 0.0


class _PairEntry(msgspec.Struct, frozen=True):
    wsname: str
    pair_decimals: int
    altname: str | None = None
    status: str | None = None
    aclass_base: str | None = None


def parse_pairs(result: msgspec.Raw) -> dict[str, Pair]:
    """Pairs by v2 name, from AssetPairs; entries without a `wsname` (dark pools) are omitted.

    A tokenised pair is listed twice, with one `wsname` and one `altname`: the entry whose key is the `altname` counts.
    """
    pairs: dict[str, Pair] = {}
    for key, raw in _decode(result, dict[str, msgspec.Raw], "pairs by name").items():
        try:
            entry = msgspec.json.decode(raw, type=_PairEntry, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        symbol = native_name(entry.wsname)
        if 0 <= entry.pair_decimals <= 30 and (symbol not in pairs or key == entry.altname):
            pairs[symbol] = Pair(
                entry.altname or key,
                entry.pair_decimals,
                entry.status or ONLINE,
                entry.aclass_base or ASSET_CLASSES[0],
            )
    return pairs


def native_name(wsname: str) -> str:
    """REST's `XBT/USD` as WebSocket v2 calls it: BTC/USD."""
    return "/".join(_NAMES.get(side, side) for side in wsname.split("/"))


def _decode(raw: msgspec.Raw, kind: type[_T], what: str) -> _T:
    try:
        # Not strict: numbers may be strings.
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RestError(f"expected {what}, got {bytes(raw)[:200]!r}: {error}") from None


def _rows(result: msgspec.Raw, kind: type[_T]) -> tuple[list[_T], msgspec.Raw]:
    """The rows and `last`. The pair's key varies, so it is the one that is not `last`."""
    fields = _decode(result, dict[str, msgspec.Raw], "rows by pair")
    last = fields.pop("last", msgspec.Raw())
    if len(fields) != 1:
        raise RestError(f"expected the rows of one pair, got the keys {', '.join(fields) or 'none'}")
    (rows,) = fields.values()
    return _decode(rows, list[kind], "rows of one pair"), last  # type: ignore[valid-type]


def parse_ohlc(result: msgspec.Raw, timeframe: Timeframe) -> tuple[OhlcRow, ...]:
    """The rows of an OHLC response, oldest first, each once."""
    rows = {row.open_time: row for row in _rows(result, OhlcRow)[0]}
    for row in rows.values():
        if row.open_time % timeframe.seconds or row.trades < 0:
            raise RestError(f"expected an OHLC row of {timeframe.value}, got {row}")
        _check(row.open, row.high, row.low, row.close, row.vwap, row.volume)
        if not row.low <= row.open <= row.high or not row.low <= row.close <= row.high:
            raise RestError(f"expected an OHLC row with low <= open, close <= high, got {row}")
    return tuple(rows[open_time] for open_time in sorted(rows))


def parse_trades(result: msgspec.Raw) -> TradePage:
    """The trades of a page, oldest first; a trade that Kraken recorded late has a later number."""
    rows, last = _rows(result, _TradeRow)
    for row in rows:
        _check(row.price, row.volume, row.time)
    ordered = sorted(rows, key=lambda row: (row.time, row.number))
    trades = tuple(Trade(row.number, row.time, row.price, row.volume) for row in ordered)
    return TradePage(trades, _position(last))


def _position(last: msgspec.Raw) -> int | None:
    """The position of the next page; None if `last` is absent, empty or null."""
    text = bytes(last).decode().strip('"')
    if text in ("", "null"):
        return None
    if not text.isdecimal() or len(text) > _POSITION_DIGITS:
        raise RestError(f"expected the last trade's time in nanoseconds, got {text[:100]!r}")
    return int(text)


def _check(*numbers: Decimal) -> None:
    for number in numbers:
        if not number.is_finite() or not 0 <= number < _LIMIT or len(str(number)) > 64:
            raise RestError(f"expected a number from 0 to 1e20, got {str(number)[:100]}")
