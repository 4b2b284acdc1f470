"""WebSocket v2 frames as text, with the keys, their order and the digits of the recorded ones."""

import json
from collections.abc import Iterable, Mapping

from kraken_simulator.candles import Candle
from kraken_simulator.pairs import Pair
from kraken_simulator.text import NANOS, VOLUME_DECIMALS, fixed, rfc3339, rfc3339_seconds, rfc3339_shortest

HEARTBEAT = '{"channel":"heartbeat"}'
RATE_EXCEEDED = '{"Error":"Exceeded msg rate"}'
NOT_JSON = "<html><head><title>502 Bad Gateway</title></head><body><center>cloudflare</center></body></html>"
UNKNOWN_MESSAGE = '{"channel":"announcement","type":"update","sequence":7,"data":{"kind":"notice","text":"hello"}}'

WARNING = "timestamp is deprecated, use interval_begin"


def status(system: str, connection_id: int) -> str:
    """Return the status frame; `connection_id` may exceed a signed 64-bit integer (fact 7)."""
    return (
        f'{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"{system}","api_version":"v2",'
        f'"connection_id":{connection_id},"upcoming_maintenance":[],"emergency":[]}}]}}'
    )


def _digits(nanos: int) -> str:
    return rfc3339(nanos, 6)


def _req_id(req_id: int | None) -> str:
    return "" if req_id is None else f'"req_id":{req_id},'


def pong(req_id: int | None, time_in: int, time_out: int) -> str:
    """Return the answer to an application ping."""
    return f'{{"method":"pong",{_req_id(req_id)}"time_in":"{_digits(time_in)}","time_out":"{_digits(time_out)}"}}'


def ohlc_subscribed(
    symbol: str, interval: int, *, snapshot: bool, req_id: int | None, time_in: int, time_out: int
) -> str:
    """Return the ack of an ohlc subscription of one symbol."""
    result: dict[str, object] = {
        "channel": "ohlc",
        "interval": interval,
        "snapshot": snapshot,
        "symbol": symbol,
        "warnings": [WARNING],
    }
    return _ack("subscribe", result, req_id, time_in, time_out)


def ohlc_unsubscribed(symbol: str, interval: int, *, req_id: int | None, time_in: int, time_out: int) -> str:
    """Return the ack of an ohlc unsubscription of one symbol."""
    return _ack("unsubscribe", {"channel": "ohlc", "interval": interval, "symbol": symbol}, req_id, time_in, time_out)


def channel_acked(
    method: str, channel: str, *, snapshot: bool | None, req_id: int | None, time_in: int, time_out: int
) -> str:
    """Return the ack for a channel without symbols."""
    result: dict[str, object] = {"channel": channel} | ({} if snapshot is None else {"snapshot": snapshot})
    return _ack(method, result, req_id, time_in, time_out)


def _ack(method: str, result: dict[str, object], req_id: int | None, time_in: int, time_out: int) -> str:
    return (
        f'{{"method":"{method}",{_req_id(req_id)}"result":{json.dumps(result, separators=(",", ":"))},"success":true,'
        f'"time_in":"{_digits(time_in)}","time_out":"{_digits(time_out)}"}}'
    )


def error(
    text: str, method: str | None, *, symbol: object = None, req_id: int | None, time_in: int, time_out: int
) -> str:
    """Return an error frame, which has no result, channel or interval (fact 8)."""
    parts: dict[str, object] = {"error": text}
    if method is not None:
        parts["method"] = method
    if req_id is not None:
        parts["req_id"] = req_id
    parts["success"] = False
    if symbol is not None:
        parts["symbol"] = symbol
    return json.dumps(parts | {"time_in": _digits(time_in), "time_out": _digits(time_out)}, separators=(",", ":"))


def ohlc_row(pair: Pair, candle: Candle, minutes: int) -> str:
    """Return a candle as a row of a snapshot or update; its `timestamp` is the interval's end (fact 6)."""
    decimals = pair.price_decimals
    begin, end = rfc3339_seconds(candle.open_time)[:-1], rfc3339_seconds(candle.open_time + minutes * 60)[:-1]
    return (
        f'{{"symbol":"{pair.symbol}","open":{fixed(candle.open, decimals)},"high":{fixed(candle.high, decimals)},'
        f'"low":{fixed(candle.low, decimals)},"close":{fixed(candle.close, decimals)},"trades":{candle.trades},'
        f'"volume":{fixed(candle.volume, VOLUME_DECIMALS)},"vwap":{fixed(candle.vwap, decimals)},'
        f'"interval_begin":"{begin}.000000000Z","interval":{minutes},"timestamp":"{end}.000000Z"}}'
    )


def ohlc_snapshot(pair: Pair, candles: Iterable[Candle], minutes: int, now: int) -> str:
    """Return a snapshot, oldest candle first."""
    rows = ",".join(ohlc_row(pair, candle, minutes) for candle in candles)
    return f'{{"channel":"ohlc","type":"snapshot","timestamp":"{rfc3339(now, 9)}","data":[{rows}]}}'


def ohlc_update(pair: Pair, candles: Iterable[Candle], minutes: int, trade_time: int) -> str:
    """Return an update as of a trade; every recorded one has a single row."""
    rows = ",".join(ohlc_row(pair, candle, minutes) for candle in candles)
    return f'{{"channel":"ohlc","type":"update","timestamp":"{rfc3339_shortest(trade_time)}","data":[{rows}]}}'


def instrument_snapshot(pairs: Iterable[Pair], system: str) -> str:
    """Return the snapshot of the instrument channel, whose `data` is an object."""
    return _instruments("snapshot", dict.fromkeys(pairs, system))


def instrument_update(pairs: Mapping[Pair, str]) -> str:
    """Return an update of the instrument channel: the `pairs` that have changed, with their status.

    No recording of one exists; it has the form of the snapshot.
    """
    return _instruments("update", pairs)


def _instruments(kind: str, pairs: Mapping[Pair, str]) -> str:
    currencies = sorted({currency for pair in pairs for currency in (pair.base, pair.quote)})
    assets = ",".join(
        f'{{"id":"{currency}","status":"enabled","precision":10,"precision_display":5,"borrowable":false,'
        f'"collateral_value":0.00,"margin_rate":0.000000}}'
        for currency in currencies
    )
    rows = ",".join(
        f'{{"symbol":"{pair.symbol}","base":"{pair.base}","quote":"{pair.quote}","status":"{status}",'
        f'"qty_precision":8,"qty_increment":{fixed(1, VOLUME_DECIMALS)},"price_precision":{pair.price_decimals},'
        f'"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.50,'
        f'"price_increment":{fixed(1, pair.price_decimals)},"qty_min":0.00005000}}'
        for pair, status in pairs.items()
    )
    return f'{{"channel":"instrument","type":"{kind}","data":{{"assets":[{assets}],"pairs":[{rows}]}}}}'


def minute_of(nanos: int, minutes: int) -> int:
    """Return the unix seconds at which the interval of a moment opens."""
    size = minutes * 60
    return nanos // NANOS // size * size
