"""Kraken's REST: pairs, OHLC and Trades (`kraken-protocol.md`, REST).

Answers are checked here; rows that are not rows fail the call.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from ingress_common.timeframes import Timeframe
from kraken_gateway.kraken.protocol import ONLINE
from kraken_gateway.metrics import GatewayMetrics

CALL_GAP = 1.0
"""Seconds between calls for one pair."""

LONGEST_GAP = 8.0
"""Seconds between calls for one pair when Kraken says that it is asked too much."""

CONCURRENCY = 4
"""Calls at the same time, over all pairs."""

PAGE = 1000
"""Trades asked for at once."""

_TIMEOUT = 15.0
_TOO_MANY = ("EGeneral:Too many requests", "EAPI:Rate limit exceeded")
_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
_LIMIT = Decimal("1e20")


class RestError(Exception):
    """A call that may succeed later: the network, a busy or ailing Kraken, an answer that makes no sense."""


class KrakenAilingError(RestError):
    """Kraken as a whole cannot be reached or does not work: no other call would fare better now."""


class TooManyRequestsError(RestError):
    """Kraken wants to be asked less often for this pair."""


class UnknownPairError(Exception):
    """Kraken does not know the pair."""


@dataclass(frozen=True, slots=True)
class Pair:
    """How REST calls a pair (`name`), the decimals of its prices, and its status as in `protocol`."""

    name: str
    price_decimals: int
    status: str = ONLINE


@dataclass(frozen=True, slots=True)
class OhlcRow:
    """One row of OHLC; `open_time` in unix seconds. `trades` 0 marks a row that Kraken has filled in (fact 3)."""

    open_time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    vwap: Decimal
    volume: Decimal
    trades: int


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; `time` in unix seconds, exact."""

    number: int
    time: Decimal
    price: Decimal
    volume: Decimal


@dataclass(frozen=True, slots=True)
class TradePage:
    """Consecutive trades and `last`, the place (ns) where the next page begins."""

    trades: tuple[Trade, ...]
    last: int


class KrakenRest:
    """REST calls at Kraken's pace. RestError: try again later. UnknownPairError: do not.

    `dated` is told the date of each answer (unix seconds).
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        metrics: GatewayMetrics,
        dated: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._client = client
        self._metrics = metrics
        self._dated = dated
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._next_call: dict[str, float] = {}
        self._gaps: dict[str, float] = {}

    def ready_at(self, pair: Pair) -> float:
        """When `pair` may be asked for again without waiting (seconds of the loop's clock)."""
        return self._next_call.get(pair.name, float("-inf"))

    async def pairs(self) -> dict[str, Pair]:
        """Every pair by its WebSocket v2 name."""
        return parse_pairs(await self._call("AssetPairs", {}, "AssetPairs"))

    async def ohlc(self, pair: Pair, timeframe: Timeframe, since: int) -> tuple[OhlcRow, ...]:
        """The candles that open after `since` (unix seconds), oldest first; at most 720 and the forming one, which is
        last.
        """
        parameters: dict[str, str | int] = {"pair": pair.name, "interval": timeframe.minutes, "since": since}
        return parse_ohlc(await self._call("OHLC", parameters, pair.name), timeframe)

    async def trades(self, pair: Pair, since: int) -> TradePage:
        """Trades after `since` (ns), oldest first."""
        return parse_trades(await self._call("Trades", {"pair": pair.name, "since": since, "count": PAGE}, pair.name))

    async def latest_trades(self, pair: Pair) -> TradePage:
        """The last PAGE trades, oldest first, however long ago."""
        return parse_trades(await self._call("Trades", {"pair": pair.name, "count": PAGE}, pair.name))

    async def _call(self, endpoint: str, parameters: Mapping[str, str | int], key: str) -> Any:
        await self._wait_turn(key)
        async with self._slots:
            self._metrics.rest_requests.labels(endpoint).inc()
            try:
                response = await self._client.get(
                    f"{self._url}/0/public/{endpoint}", params=dict(parameters), timeout=_TIMEOUT
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise KrakenAilingError(
                    f"{self._url} cannot be reached: {str(error) or type(error).__name__}"
                ) from None
        if (date := parse_date(response.headers.get("date", ""))) is not None:
            self._dated(date)
        try:
            result = parse_envelope(response.status_code, response.content)
        except TooManyRequestsError:
            self._slow_down(key)
            raise
        if self._gaps.pop(key, None):
            self._next_call[key] = asyncio.get_running_loop().time() + CALL_GAP
        return result

    def _slow_down(self, key: str) -> None:
        gap = self._gaps[key] = min(LONGEST_GAP, 2 * self._gaps.get(key, CALL_GAP))
        self._next_call[key] = asyncio.get_running_loop().time() + gap

    async def _wait_turn(self, key: str) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for old in [name for name, at in self._next_call.items() if at <= now]:
            del self._next_call[old]
        turn = max(now, self._next_call.get(key, now))
        self._next_call[key] = turn + self._gaps.get(key, CALL_GAP)
        await asyncio.sleep(turn - now)


# --- answers ----------------------------------------------------------------------------------------------------------


def parse_date(text: str) -> float | None:
    """The date of an answer's head (unix seconds); None if it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_envelope(status: int, body: bytes) -> Any:
    """The `result` of an answer. Errors come with HTTP 200 and a list of texts."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise TooManyRequestsError("Kraken says: HTTP 429")
    try:
        answer = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError):
        raise KrakenAilingError(
            f"expected JSON from Kraken, got HTTP {status} and {len(body)} bytes of something else"
        ) from None
    if not isinstance(answer, dict):
        raise RestError(f"expected a JSON object from Kraken, got HTTP {status} and {type(answer).__name__}")
    errors = answer.get("error")
    if errors:
        texts = [str(error) for error in errors] if isinstance(errors, list) else [str(errors)]
        if any(text.startswith("EQuery:Unknown asset pair") for text in texts):
            raise UnknownPairError(", ".join(texts))
        if any(text.startswith(_TOO_MANY) for text in texts):
            raise TooManyRequestsError(f"Kraken says: {', '.join(texts)}")
        if any(text.startswith("EService:") for text in texts):
            raise KrakenAilingError(f"Kraken says: {', '.join(texts)}")
        raise RestError(f"Kraken says: {', '.join(texts)}")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise KrakenAilingError(f"expected a result from Kraken, got HTTP {status}")
    if status != httpx.codes.OK or "result" not in answer:
        raise RestError(f"expected a result from Kraken, got HTTP {status}")
    return answer["result"]


def parse_pairs(result: Any) -> dict[str, Pair]:
    """Pairs by v2 name, out of AssetPairs; entries without a `wsname` (dark pools) are left out."""
    if not isinstance(result, dict):
        raise RestError(f"expected pairs by name, got {type(result).__name__}")
    pairs: dict[str, Pair] = {}
    for key, entry in result.items():
        if not isinstance(entry, dict):
            continue
        name, decimals = entry.get("wsname"), entry.get("pair_decimals")
        if isinstance(name, str) and isinstance(decimals, int) and 0 <= decimals <= 30:
            status = str(entry.get("status") or ONLINE)
            pairs[native_name(name)] = Pair(str(entry.get("altname") or key), decimals, status)
    return pairs


def native_name(wsname: str) -> str:
    """REST's `XBT/USD` as WebSocket v2 calls it: BTC/USD."""
    return "/".join(_NAMES.get(side, side) for side in wsname.split("/"))


def _rows(result: Any) -> tuple[Sequence[Any], Any]:
    """The rows and `last`; the pair's key varies, so it is whichever is not `last`."""
    if not isinstance(result, dict):
        raise RestError(f"expected rows by pair, got {type(result).__name__}")
    keys = [key for key in result if key != "last"]
    if len(keys) != 1 or not isinstance(result[keys[0]], list):
        raise RestError(f"expected the rows of one pair, got the keys {', '.join(map(str, keys)) or 'none'}")
    return result[keys[0]], result.get("last")


def parse_ohlc(result: Any, timeframe: Timeframe) -> tuple[OhlcRow, ...]:
    """The rows of an OHLC answer, oldest first, each once."""
    rows = {row.open_time: row for row in (_ohlc_row(item, timeframe) for item in _rows(result)[0])}
    return tuple(rows[open_time] for open_time in sorted(rows))


def _ohlc_row(item: Any, timeframe: Timeframe) -> OhlcRow:
    try:
        opening, high, low, close, vwap, volume = (_number(text) for text in item[1:7])
        row = OhlcRow(int(item[0]), opening, high, low, close, vwap, volume, int(item[7]))
    except (TypeError, ValueError, ArithmeticError, LookupError):
        raise RestError(f"expected an OHLC row, got {str(item)[:200]}") from None
    if row.open_time % timeframe.seconds or row.trades < 0:
        raise RestError(f"expected an OHLC row of {timeframe.value}, got {str(item)[:200]}")
    if not row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high:
        raise RestError(f"expected an OHLC row with low <= open, close <= high, got {str(item)[:200]}")
    return row


def _number(text: Any) -> Decimal:
    number = Decimal(str(text))
    if not 0 <= number < _LIMIT:
        raise ValueError(f"expected a number of 0 or more, got {text}")
    return number


def parse_trades(result: Any) -> TradePage:
    """The trades of a page, oldest first; a trade that Kraken learned of late has a later number."""
    rows, last = _rows(result)
    try:
        trades = sorted(
            (Trade(int(item[6]), Decimal(str(item[2])), _number(item[0]), _number(item[1])) for item in rows),
            key=lambda trade: (trade.time, trade.number),
        )
        return TradePage(tuple(trades), int(last))
    except (TypeError, ValueError, ArithmeticError, LookupError):
        raise RestError(
            "expected trades [price, volume, time, side, type, misc, id] and last, got something else"
        ) from None
