"""How many trades of a minute a feed has published: an MQTT user property of its watermarks.

It has the minutes that end with the watermark, and the symbols that were updated since the last one.

A broker may drop candle updates silently, or keep them from a subscriber. A subscriber that has fewer trades of a
minute than its feed has published lacks updates, so it does not know the minute, however far the watermarks go.
"""

from collections.abc import Mapping

import msgspec

from ingress_common.model import MinuteTrades
from ingress_common.payloads import PayloadError

TRADES = "trades"
"""User property: by minute (unix seconds of its open) and symbol, the trades of the last update that was published."""

_LENGTH = 60_000
"""Maximum length: MQTT allows 65,535 bytes. A feed of 300 symbols needs about 6,000 for a minute."""

_decoder = msgspec.json.Decoder(dict[int, dict[str, int]])


def trades_property(trades: MinuteTrades) -> dict[str, str]:
    """The user properties that state `trades`, for as many of the newest minutes as fit."""
    stated: dict[int, Mapping[str, int]] = {}
    length = 0
    for minute in sorted(trades, reverse=True):
        length += len(msgspec.json.encode({minute: trades[minute]}))
        if length > _LENGTH:
            break
        stated[minute] = trades[minute]
    return {TRADES: msgspec.json.encode(stated).decode()} if stated else {}


def trades_of(properties: Mapping[str, str]) -> MinuteTrades:
    """The trades that `properties` state; nothing if there are none. PayloadError if they are malformed."""
    text = properties.get(TRADES)
    if text is None:
        return {}
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"expected the trades of a feed's minutes by symbol: {error}") from None
