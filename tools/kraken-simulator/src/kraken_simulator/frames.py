"""WebSocket v2 frames as text, with the keys, key order and digits of recorded frames."""

import json
from collections.abc import Iterable, Mapping

from kraken_simulator.candles import OhlcCandle
from kraken_simulator.digits import Digits
from kraken_simulator.tape import NumberedTrade
from kraken_simulator.text import rfc3339, rfc3339_seconds, rfc3339_shortest

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


def micros(nanos: int) -> str:
    """Return unix nanoseconds as RFC 3339 with six fractional digits, as in most of Kraken's frames."""
    return rfc3339(nanos, 6)


def _req_id(req_id: int | None) -> str:
    return "" if req_id is None else f'"req_id":{req_id},'


def pong(req_id: int | None, time_in: int, time_out: int) -> str:
    """Return the response to an application ping."""
    return f'{{"method":"pong",{_req_id(req_id)}"time_in":"{micros(time_in)}","time_out":"{micros(time_out)}"}}'


def ack(method: str, result: Mapping[str, object], *, req_id: int | None, time_in: int, time_out: int) -> str:
    """Return the ack of a subscribe or unsubscribe; `result` repeats the request, with sorted keys."""
    text = json.dumps(dict(sorted(result.items())), separators=(",", ":"))
    return (
        f'{{"method":"{method}",{_req_id(req_id)}"result":{text},"success":true,'
        f'"time_in":"{micros(time_in)}","time_out":"{micros(time_out)}"}}'
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
    return json.dumps(parts | {"time_in": micros(time_in), "time_out": micros(time_out)}, separators=(",", ":"))


def ohlc_row(symbol: str, digits: Digits, candle: OhlcCandle, minutes: int) -> str:
    """Return a candle as a row of a snapshot or update; its `timestamp` is the interval's end (fact 6)."""
    begin, end = rfc3339_seconds(candle.open_time)[:-1], rfc3339_seconds(candle.open_time + minutes * 60)[:-1]
    return (
        f'{{"symbol":"{symbol}","open":{digits.price(candle.open)},"high":{digits.price(candle.high)},'
        f'"low":{digits.price(candle.low)},"close":{digits.price(candle.close)},"trades":{candle.trades},'
        f'"volume":{digits.quantity(candle.volume)},'
        f'"vwap":{digits.vwap(candle.turnover, candle.volume, candle.close)},'
        f'"interval_begin":"{begin}.000000000Z","interval":{minutes},"timestamp":"{end}.000000Z"}}'
    )


def ohlc_snapshot(symbol: str, digits: Digits, candles: Iterable[OhlcCandle], minutes: int, now: int) -> str:
    """Return a snapshot, oldest candle first."""
    rows = ",".join(ohlc_row(symbol, digits, candle, minutes) for candle in candles)
    return f'{{"channel":"ohlc","type":"snapshot","timestamp":"{rfc3339(now, 9)}","data":[{rows}]}}'


def ohlc_update(symbol: str, digits: Digits, candles: Iterable[OhlcCandle], minutes: int, trade_time: int) -> str:
    """Return an update after a trade; every recorded update has one row."""
    rows = ",".join(ohlc_row(symbol, digits, candle, minutes) for candle in candles)
    return f'{{"channel":"ohlc","type":"update","timestamp":"{rfc3339_shortest(trade_time)}","data":[{rows}]}}'


def trades(kind: str, symbol: str, digits: Digits, rows: Iterable[NumberedTrade]) -> str:
    """Return a snapshot or update of the trade channel, oldest trade first."""
    texts = ",".join(
        f'{{"symbol":"{symbol}","side":"{"sell" if trade.sell else "buy"}","price":{digits.price(trade.price)},'
        f'"qty":{digits.quantity(trade.quantity)},"ord_type":"{"limit" if trade.limit else "market"}",'
        f'"trade_id":{number},"timestamp":"{micros(trade.time)}"}}'
        for number, trade in rows
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{texts}]}}'
