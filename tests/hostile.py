"""Hostile messages: seeded, of every kind that the services read, each with the services that must refuse it.

They exclude perfectly plausible forgeries (a newer tick of a known symbol, a feed's state in its own name), which no
reader can recognise. The broker's access control prevents those (`deploy/mosquitto/acl`).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

AGGREGATOR, WRITER, ADMIN, GATEWAY = "aggregator", "influx-writer", "admin-api", "kraken-gateway"

Fields = dict[str, str]
"""A JSON object as texts of its values, so that they may be what no JSON library would write."""

_MIB = 1024 * 1024
_NUMBERS = (
    *("-1", "NaN", "-Infinity", "1e999999", "1e-999999", "1e99999999999999999999", "9" * 401, '"Infinity"', '"sNaN"'),
    *('"x"', "null", "[]", "{}", "0x10", "1,5", "--1", "1e", '""'),
)
_WHOLE_NUMBERS = ("-1", "1.5", "1e400", "1" + "0" * 400, '"x"', "null", "[1]", "NaN", "18446744073709551616")
_TIMES = (
    *('"2024-02-25T02:15:00"', '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"'),
    *('"1969-12-31T23:59:00Z"', '"2200-01-01T00:00:00Z"', '"2024-13-45T99:99:99Z"', "1708827300", "null", '""', "[]"),
    *('"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"now"', '"2024-02-25"', '"' + "9" * 5_000 + '"'),
)
_SYMBOLS = (
    *('""', '"BTC"', '"BTC/"', '"/USD"', '"+/USD"', '"#"', '"BTC/USD/EUR"', '"B TC/USD"', '"BTC-USD"', "null", "7"),
    *('"B\\"TC/USD"', '"B\\u0000TC/USD"', '"B\\nTC/USD"', '"\\ud800/USD"', '"B\\\\TC/USD"', '"B\'TC/USD"'),
    *('"' + "B" * 65 + '/USD"', '"' + "B" * 100_000 + '/USD"', '"\\u202eBTC/USD"', '"XRP/JPY"', '"₿TC/USD"'),
)
_NAMES = ("null", "7", "[]", '"' + "x" * 201 + '"', '"\\ud800"', '"somebody-else"')
_SYMBOL_LISTS = (
    *("null", "7", '"BTC/USD"', "[7]", "[null]", '["BTC"]', '[["BTC/USD"]]', '{"BTC/USD":1}', '["BTC/USD",'),
    "[" + ",".join(['"A/B"'] * 100_000) + "]",
)
_DETAILS = ("1" * 5_000, "[" * 10_000 + "]" * 10_000, '"\\ud800"', "NaN", '"' + "x" * 600_000 + '"', "-")


@dataclass(frozen=True, slots=True)
class Hostile:
    """A message, and the services that must dead-letter it; other readers only count it."""

    topic: str
    payload: bytes
    refused_by: frozenset[str]


@dataclass(frozen=True, slots=True)
class World:
    """What a well-informed attacker knows: the symbols, one of their feeds, instances, the time."""

    symbols: Sequence[str]
    feed: str
    instances: Mapping[str, str]
    now: float


def rfc3339(instant: float) -> str:
    """`instant` (unix seconds) as a JSON string."""
    return '"' + datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z") + '"'


def _level(symbol: str) -> str:
    return symbol.replace("/", "-")


class Enemy:
    """Creates hostile messages, determined by seed and world."""

    def __init__(self, seed: int, world: World) -> None:
        self._random = Random(seed)
        self._world = world

    def kinds(self) -> Mapping[str, Callable[[], Hostile]]:
        """The maker of one message of each kind."""
        return {
            "raw": self._raw,
            "history": self._history,
            "feed": self._feed,
            "watermark": self._watermark,
            "candles": self._candles,
            "seed-request": self._seed_request,
            "history-request": self._history_request,
            "status": self._status,
            "dead-letter": self._dead_letter,
        }

    def messages(self, kind: str, count: int) -> Iterator[Hostile]:
        """`count` messages of `kind`."""
        make = self.kinds()[kind]
        for _ in range(count):
            yield make()

    # --- how any payload goes wrong -----------------------------------------------------------------------------------

    def _broken(self, fields: Fields, bad: Mapping[str, Sequence[str]], optional: Sequence[str] = ()) -> bytes:
        """A malformed payload: `bad` lists invalid values of each field."""
        random = self._random
        good = _render(fields)
        field = random.choice(sorted(bad))
        value = random.choice(bad[field])
        wrong = _render({**fields, field: value})
        ways: list[Callable[[], bytes]] = [
            lambda: good[: random.randrange(1, len(good))],
            lambda: b"\x80" + random.randbytes(random.randrange(1, 200)),
            lambda: random.choice(
                [b"[", b"{", b'"', b"null", b"[]", b"7", b"\0", b"hello", b"\xef\xbb\xbf", b"{}", b" "]
            ),
            lambda: random.choice([b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"symbol":' * 10_000]),
            lambda: good[:-1] + b',"deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            lambda: wrong if field in optional else _render({n: text for n, text in fields.items() if n != field}),
            lambda: good[:-1] + f',"{field}":{value}}}'.encode(),
            lambda: good.replace(b":", b"=", 1),
            lambda: good + good,
            lambda: good[:1] + b"\xff" + good[1:],
        ]
        if random.random() < 0.01:
            size = random.choice([_MIB, _MIB, 39 * _MIB // 10])
            return random.choice([b" " * size, b"[" * size, b"\xff" * size, b"7" * size, b'{"x":"' + b"x" * size])
        # Readers are most likely to mishandle a single wrong field.
        return wrong if random.random() < 0.6 else random.choice(ways)()

    # --- candles, ticks, history --------------------------------------------------------------------------------------

    def _candle(self, symbol: str, timeframe: str, seconds: int, open_time: float) -> Fields:
        open_time = open_time // seconds * seconds
        return {
            "exchange": '"kraken"',
            "symbol": json.dumps(symbol),
            "timeframe": f'"{timeframe}"',
            "open_time": rfc3339(open_time),
            "close_time": rfc3339(open_time + seconds),
            **dict.fromkeys(("open", "high", "low", "close", "vwap"), "100.5"),
            "volume": "1.25000000",
            "trades": "3",
            "closed": "true",
            "infilled": "false",
            "complete": "true",
            "revision": "0",
            "source": '"ws"',
            "at": rfc3339(open_time + seconds + 1),
        }

    def _wrong_in_a_candle(self, open_time: float) -> Mapping[str, Sequence[str]]:
        return {
            **dict.fromkeys(("open", "high", "low", "close", "vwap", "volume"), _NUMBERS),
            "high": (*_NUMBERS, "1"),
            "low": (*_NUMBERS, "1000"),
            "trades": _WHOLE_NUMBERS,
            "open_time": (*_TIMES, rfc3339(open_time + 1), rfc3339(open_time + 0.5)),
            "at": _TIMES,
            "symbol": _SYMBOLS,
            "timeframe": ('"7m"', '"1M"', "5", "null", '""', '"2w"'),
        }

    def _symbol(self) -> str:
        known = self._random.random() < 0.7
        return self._random.choice(self._world.symbols) if known else f"X{self._random.randrange(10**6)}/USD"

    def _ahead(self) -> float:
        return self._world.now + self._random.uniform(30, 36_500) * 86_400

    def _raw(self) -> Hostile:
        symbol = self._symbol()
        topic = f"ingress/raw/kraken/{_level(symbol)}/1m"
        # Of a symbol that no feed lists, nobody is subscribed to the ticks.
        readers = {WRITER, AGGREGATOR} if symbol in self._world.symbols else set()
        kind = self._random.random()
        if kind < 0.1:
            return _hostile(topic, _render(self._candle(symbol, "1m", 60, self._ahead())), readers)
        if kind < 0.2:
            # Older than every memory; such ticks may be stored.
            past = self._candle(symbol, "1m", 60, self._random.uniform(1e8, 1e9))
            return _hostile(topic, _render(past), ())
        if kind < 0.25:
            # To the writer an empty payload is a clearing.
            return _hostile(topic, b"", readers - {WRITER})
        now = self._world.now // 60 * 60
        return _hostile(topic, self._broken(self._candle(symbol, "1m", 60, now), self._wrong_in_a_candle(now)), readers)

    def _candles(self) -> Hostile:
        timeframe, seconds = self._random.choice([("1m", 60), ("5m", 300), ("1h", 3_600), ("1w", 604_800)])
        symbol = self._symbol()
        topic = f"ingress/candles/kraken/{_level(symbol)}/{timeframe}"
        writer = {WRITER} if symbol in self._world.symbols else set()
        admin = {ADMIN} if timeframe == "1m" else set()
        readers = writer | admin
        kind = self._random.random()
        if kind < 0.1:
            return _hostile(topic, _render(self._candle(symbol, timeframe, seconds, self._ahead())), writer)
        if kind < 0.15:
            return _hostile(topic, b"", ())
        now = self._world.now // seconds * seconds
        fields = self._candle(symbol, timeframe, seconds, now)
        if kind < 0.2:
            strange = self._random.choice(['B"TC-USD', "BTC'-USD", "BTC USD", "\u20bfTC-USD", "x" * 500, "$SYS", "BTC"])
            return _hostile(f"ingress/candles/kraken/{strange}/{timeframe}", _render(fields), admin)
        if kind < 0.22:
            # Nobody reads these.
            return _hostile(topic + "/extra/levels", _render(fields), ())
        return _hostile(topic, self._broken(fields, self._wrong_in_a_candle(now)), readers)

    def _history(self) -> Hostile:
        timeframe, seconds = self._random.choice([("1m", 60), ("5m", 300), ("1d", 86_400)])
        symbol = self._random.choice(self._world.symbols)
        topic = f"ingress/history/kraken/{_level(symbol)}/{timeframe}"
        now = self._world.now // seconds * seconds
        row = self._candle(symbol, timeframe, seconds, now - 10 * seconds)
        fields = {
            "exchange": '"kraken"',
            "symbol": json.dumps(symbol),
            "timeframe": f'"{timeframe}"',
            "source": '"rest"',
            "covers": f'{{"from":{rfc3339(now - 20 * seconds)},"to":{rfc3339(now - 5 * seconds)}}}',
            "candles": "[" + _text(row) + "]",
        }
        kind = self._random.random()
        if kind < 0.1:
            covers = f'{{"from":{rfc3339(self._random.uniform(0, now))},"to":{rfc3339(self._ahead())}}}'
            rows = self._random.choice(["[]", fields["candles"]])
            return _hostile(topic, _render({**fields, "covers": covers, "candles": rows}), {AGGREGATOR})
        if kind < 0.15:
            ahead = self._candle(symbol, timeframe, seconds, self._ahead())
            return _hostile(topic, _render({**fields, "candles": "[" + _text(ahead) + "]"}), {AGGREGATOR})
        if kind < 0.2:
            past = self._random.uniform(1e8, 1e9)
            covers = f'{{"from":{rfc3339(past)},"to":{rfc3339(past + 86_400)}}}'
            return _hostile(topic, _render({**fields, "source": '"snapshot"', "covers": covers, "candles": "[]"}), ())
        if kind < 0.21:
            many = self._random.choice(['{"symbol":"A/B"}', "1", "[]", '"' + "x" * 30 + '"'])
            return _hostile(topic, _render({**fields, "candles": "[" + ",".join([many] * 100_000) + "]"}), {AGGREGATOR})
        bad_rows = [_text({**row, field: self._random.choice(values)}) for field, values in _ROW_FIELDS.items()]
        bad = {
            "symbol": _SYMBOLS,
            "timeframe": ('"7m"', "5", "null", '"1w"'),
            "source": ('"x"', "null", "7"),
            "covers": (
                *("null", "[]", "{}", '{"from":"2024-02-25T02:15:00Z"}', "7"),
                f'{{"from":{rfc3339(now)},"to":{rfc3339(now - 60)}}}',
                *(f'{{"from":{time},"to":{time}}}' for time in _TIMES),
            ),
            "candles": ("null", "7", "{}", "[7]", "[null]", "[{}]", *(f"[{bad_row}]" for bad_row in bad_rows)),
        }
        return _hostile(topic, self._broken(fields, bad), {AGGREGATOR})

    # --- feeds --------------------------------------------------------------------------------------------------------

    def _feed(self) -> Hostile:
        made_up = f"ghost-{self._random.randrange(5_000)}"
        feed = self._world.feed if self._random.random() < 0.3 else made_up
        readers = {AGGREGATOR, ADMIN}
        fields = {
            "feed": json.dumps(feed),
            "state": '"live"',
            "since": rfc3339(self._world.now),
            "symbols": '["BTC/USD"]',
            "rejected": "{}",
        }
        kind = self._random.random()
        if kind < 0.15 and feed == made_up:
            count = self._random.choice([1, 10, 1_000])
            symbols = json.dumps([f"X{self._random.randrange(10**7)}/USD" for _ in range(count)])
            return _hostile(f"ingress/feed/kraken/{feed}", _render({**fields, "symbols": symbols}), ())
        if kind < 0.2:
            symbols = json.dumps([f"X{number}/USD" for number in range(5_000)])
            return _hostile(f"ingress/feed/kraken/{feed}", _render({**fields, "symbols": symbols}), readers)
        if kind < 0.23:
            return _hostile(f"ingress/feed/kraken/{feed}", b"", ())
        bad = {
            "feed": _NAMES,
            "state": ('"up"', "null", "1", '"LIVE"', '""'),
            "since": _TIMES,
            "symbols": _SYMBOL_LISTS,
            "rejected": ("null", "[]", "7", '{"A/B":7}', '{"A/B":null}', '{"A/B":"' + "x" * 2_001 + '"}'),
        }
        payload = self._broken(fields, bad, optional=("symbols", "rejected"))
        return _hostile(f"ingress/feed/kraken/{feed}", payload, readers)

    def _watermark(self) -> Hostile:
        feed = self._world.feed
        topic = f"ingress/feed/kraken/{feed}/watermark"
        kind = self._random.random()
        if kind < 0.2:
            moment = self._ahead()
            return _hostile(topic, _mark(feed, moment, moment), {AGGREGATOR})
        if kind < 0.3:
            # For admin-api it is an old watermark, for the engine one from another time.
            moment = self._world.now - self._random.uniform(7_200, 1e9)
            return _hostile(topic, _mark(feed, moment, moment), {AGGREGATOR})
        if kind < 0.4:
            name = f"nobody-{self._random.randrange(5_000)}"
            moment = self._world.now
            return _hostile(f"ingress/feed/kraken/{name}/watermark", _mark(name, moment, moment), ())
        if kind < 0.45:
            return _hostile(topic, b"", {AGGREGATOR, ADMIN})
        fields = {"feed": json.dumps(feed), "watermark": rfc3339(self._world.now), "at": rfc3339(self._world.now)}
        bad = {"feed": _NAMES, "watermark": _TIMES, "at": _TIMES}
        return _hostile(topic, self._broken(fields, bad), {AGGREGATOR, ADMIN})

    # --- requests -----------------------------------------------------------------------------------------------------

    def _seed_request(self) -> Hostile:
        topic = "ingress/request/kraken/seed"
        if self._random.random() < 0.1:
            count = self._random.choice([1, 100, 5_000])
            symbols = json.dumps([f"X{self._random.randrange(10**7)}/USD" for _ in range(count)])
            return _hostile(topic, _render({"symbols": symbols}), ())
        payload = self._broken({"symbols": '["X1/USD"]'}, {"symbols": _SYMBOL_LISTS})
        return _hostile(topic, payload if self._random.random() < 0.97 else b"", {GATEWAY})

    def _history_request(self) -> Hostile:
        topic = "ingress/request/kraken/history"
        now = self._world.now
        fields = {"symbols": '["X1/USD"]', "timeframe": '"1m"', "from": rfc3339(now - 600), "to": rfc3339(now)}
        kind = self._random.random()
        if kind < 0.1:
            symbols = json.dumps([f"X{self._random.randrange(10**7)}/USD" for _ in range(50)])
            return _hostile(topic, _render({**fields, "symbols": symbols}), ())
        bad = {
            "symbols": _SYMBOL_LISTS,
            "timeframe": ('"7m"', "1", "null", '""'),
            "from": (*_TIMES, rfc3339(now + 60)),
            "to": (*_TIMES, rfc3339(now - 6_000)),
        }
        return _hostile(topic, self._broken(fields, bad) if kind < 0.97 else b"", {GATEWAY})

    # --- status and dead letters --------------------------------------------------------------------------------------

    def _status(self) -> Hostile:
        service = self._random.choice([*self._world.instances, "made-up"])
        known = service in self._world.instances and self._random.random() < 0.5
        instance = self._world.instances[service] if known else f"ghost-{self._random.randrange(5_000)}"
        topic = f"ingress/status/{service}/{instance}"
        # The writer counts what it cannot use of its own group.
        readers = {ADMIN, service} & {ADMIN, AGGREGATOR, GATEWAY}
        fields = {
            "service": json.dumps(service),
            "instance": json.dumps(instance),
            "state": '"online"',
            "version": '"0.1.0"',
            "started_at": rfc3339(self._world.now),
        }
        kind = self._random.random()
        if kind < 0.1 and service == "made-up":
            details = json.dumps({"symbols": ["x" * 100] * self._random.choice([0, 10, 2_000])})
            return _hostile(topic, _render({**fields, "details": details}), ())
        if kind < 0.15:
            return _hostile(topic, b"", ())
        bad = {
            "service": ("null", "7", "[]", '"somebody-else"', '"' + "x" * 201 + '"'),
            "instance": _NAMES,
            "state": ('"up"', "null", "1", '""'),
            "version": ("null", "7", '"' + "x" * 201 + '"'),
            "started_at": _TIMES,
        }
        if kind < 0.3:
            return _hostile(topic, _render({**fields, "details": self._random.choice(_DETAILS)}), readers)
        return _hostile(topic, self._broken(fields, bad), readers)

    def _dead_letter(self) -> Hostile:
        service = self._random.choice([AGGREGATOR, WRITER, "made-up", f"ghost-{self._random.randrange(3_000)}"])
        fields = {"topic": '"a/b"', "payload": '"x"', "reason": '"why"', "at": rfc3339(self._world.now)}
        bad: dict[str, Sequence[str]] = {
            "topic": ("null", "7", '"' + "x" * 70_000 + '"'),
            "payload": ("null", "7", '"' + "x" * 140_000 + '"'),
            "reason": ("null", "7", '"' + "x" * 2_001 + '"'),
            "at": _TIMES,
        }
        payload = _render(fields) if service.startswith("ghost") else self._broken(fields, bad)
        # A malformed dead letter causes no dead letter; it is counted.
        return _hostile(f"ingress/dead-letter/{service}", payload, ())


_ROW_FIELDS: Mapping[str, Sequence[str]] = {
    "open": _NUMBERS,
    "volume": _NUMBERS,
    "trades": _WHOLE_NUMBERS,
    "open_time": _TIMES,
    "at": _TIMES,
    "symbol": _SYMBOLS,
}


def _text(fields: Fields) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _render(fields: Fields) -> bytes:
    return _text(fields).encode()


def _mark(feed: str, watermark: float, at: float) -> bytes:
    return _render({"feed": json.dumps(feed), "watermark": rfc3339(watermark), "at": rfc3339(at)})


def _hostile(topic: str, payload: bytes, refused_by: Any) -> Hostile:
    return Hostile(topic, payload, frozenset(refused_by))
