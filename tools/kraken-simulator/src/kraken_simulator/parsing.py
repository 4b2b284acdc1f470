"""Parses the JSON bodies of `POST /faults` and `POST /rate`."""

from collections.abc import Callable, Iterable
from typing import Any

from kraken_simulator.errors import FaultError
from kraken_simulator.faults import CHANGE_FIELDS, CHANGES, KINDS, PAIR_STATUSES, FaultRequest
from kraken_simulator.pace import MAX_TICKS
from kraken_simulator.pairs import SYMBOL_PATTERN, VOLUME_UNITS

MAX_SECONDS = 86_400.0
MAX_DECIMALS = 10

_FIELDS = frozenset({"kind", "symbol", "seconds", "new_connections"})


def parse_fault(body: object, symbols: Iterable[str]) -> FaultRequest:
    """Return the fault that a JSON body requests. FaultError if the body is invalid."""
    if not isinstance(body, dict):
        message = 'expected a JSON object such as {"kind": "eof", "seconds": 5}'
        raise FaultError(message)
    kind = body.get("kind")
    if not isinstance(kind, str) or (kind not in KINDS and kind not in CHANGES):
        message = f"kind: expected one of {', '.join((*KINDS, *CHANGES))}, was {kind!r}"
        raise FaultError(message)
    allowed = _FIELDS | CHANGE_FIELDS.get(kind, frozenset())
    unknown = set(body) - allowed
    if unknown:
        message = f"expected the fields {', '.join(sorted(allowed))}, was also {', '.join(sorted(unknown))}"
        raise FaultError(message)
    values: dict[str, Any] = {
        name: _PARSERS[name](body[name]) for name in _PARSERS if body.get(name) is not None and name in allowed
    }
    symbol = _symbol(body.get("symbol"), symbols, new=kind == "list")
    request = FaultRequest(kind, symbol, **values)
    _require(request)
    return request


def parse_rate(body: object) -> tuple[float, float | None]:
    """Return the requested ticks per second, and for how many seconds (None: for good). FaultError if invalid."""
    if not isinstance(body, dict) or "ticks" not in body or set(body) - {"ticks", "seconds"}:
        message = 'expected a JSON object such as {"ticks": 5000, "seconds": 60}'
        raise FaultError(message)
    ticks = _number("ticks", 1, MAX_TICKS)(body["ticks"])
    return ticks, None if body.get("seconds") is None else _PARSERS["seconds"](body["seconds"])


def _require(request: FaultRequest) -> None:
    if request.kind in CHANGES and request.symbol is None:
        message = f"symbol: expected the pair of the {request.kind}, was none"
        raise FaultError(message)
    if request.kind == "rename" and request.to is None:
        message = "to: expected the new name such as POL/USD, was none"
        raise FaultError(message)
    if request.kind == "status" and request.status is None:
        message = f"status: expected one of {', '.join(PAIR_STATUSES)}, was none"
        raise FaultError(message)
    if request.kind == "reprecision" and request.price_decimals is None and request.qty_decimals is None:
        message = "price_decimals, qty_decimals: expected one of them at least, was none"
        raise FaultError(message)


def _symbol(text: object, symbols: Iterable[str], *, new: bool) -> str | None:
    if text is None:
        return None
    if new:
        return _new_symbol("symbol")(text)
    known = tuple(symbols)
    symbol = text.replace("-", "/") if isinstance(text, str) else text
    if not isinstance(symbol, str) or symbol not in known:
        names = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        message = f"symbol: expected one of {names}, was {text!r}"
        raise FaultError(message)
    return symbol


def _new_symbol(name: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        symbol = value.replace("-", "/") if isinstance(value, str) else ""
        if not SYMBOL_PATTERN.fullmatch(symbol):
            message = f"{name}: expected a pair such as BTC/USD, was {value!r}"
            raise FaultError(message)
        return symbol

    return parse


def _number(name: str, least: float, most: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            message = f"{name}: expected a number from {least:.15g} to {most:.15g}, was {value!r}"
            raise FaultError(message)
        return float(value)

    return parse


def _whole(name: str, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            message = f"{name}: expected a whole number from 0 to {most}, was {value!r}"
            raise FaultError(message)
        return value

    return parse


def _status(value: object) -> str:
    if value not in PAIR_STATUSES:
        message = f"status: expected one of {', '.join(PAIR_STATUSES)}, was {value!r}"
        raise FaultError(message)
    return str(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        message = f"new_connections: expected true or false, was {value!r}"
        raise FaultError(message)
    return value


_PARSERS: dict[str, Callable[[object], Any]] = {
    "seconds": _number("seconds", 0, MAX_SECONDS),
    "new_connections": _flag,
    "to": _new_symbol("to"),
    "status": _status,
    "price_decimals": _whole("price_decimals", MAX_DECIMALS),
    "qty_decimals": _whole("qty_decimals", VOLUME_UNITS),
    "trades_per_minute": _number("trades_per_minute", 0.001, 60_000),
    "price": _number("price", 1e-8, 1e8),
}
