"""A simple order book around the last trade, for clients that need bid and ask prices and quantities."""

import zlib
from typing import NamedTuple

from kraken_simulator.digits import Digits
from kraken_simulator.pairs import VOLUME_UNITS
from kraken_simulator.tape import Tape

DEPTHS = (10, 25, 100, 500, 1_000)
"""The depths of the book that can be subscribed to."""

_CHECKED = 10
_NOTIONAL = 3_000
_MIX, _PARTS = 2_654_435_761, 9_973


class PriceLevel(NamedTuple):
    """A price and the quantity offered at it, in units of their last decimal."""

    price: int
    quantity: int


class Book(NamedTuple):
    """Both sides of the order book, best price first."""

    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]


EMPTY = Book((), ())


def book_of(tape: Tape, digits: Digits, depth: int) -> Book:
    """Return the order book after the last trade, whose price is the best on the side that it hit."""
    if not len(tape):
        return EMPTY
    trade = tape.numbered(len(tape) - 1, len(tape))[0].trade
    spacing = digits.price_step * 10 ** max(0, len(str(trade.price // digits.price_step)) - 6)
    below = trade.price // spacing * spacing
    bid = below if trade.sell or below < trade.price else below - spacing
    bids = (bid - spacing * index for index in range(depth))
    asks = (bid + spacing * (index + 1) for index in range(depth))
    return Book(
        tuple(PriceLevel(price, _quantity(price, digits)) for price in bids if price > 0),
        tuple(PriceLevel(price, _quantity(price, digits)) for price in asks),
    )


def _quantity(price: int, digits: Digits) -> int:
    """Return the quantity offered at a price. It depends on the price only, so a moving book changes at its ends."""
    share = price * _MIX % _PARTS + 1
    units = int(_NOTIONAL * share * 10 ** (VOLUME_UNITS + digits.scale)) // (_PARTS * price)
    return max(digits.qty_step, units // digits.qty_step * digits.qty_step)


def changes(before: tuple[PriceLevel, ...], after: tuple[PriceLevel, ...]) -> tuple[PriceLevel, ...]:
    """Return the changed levels of a side; a quantity of 0 removes a level.

    It omits levels beyond the depth, because clients truncate the book themselves.
    """
    old, new = dict(before), dict(after)
    gone = tuple(PriceLevel(price, 0) for price, _ in before if price not in new and _is_inside(price, after))
    return gone + tuple(level for level in after if old.get(level.price) != level.quantity)


def _is_inside(price: int, side: tuple[PriceLevel, ...]) -> bool:
    if not side:
        return True
    best, worst = side[0].price, side[-1].price
    return price >= worst if best >= worst else price <= worst


def checksum(book: Book, digits: Digits) -> int:
    """Return Kraken's CRC32 over the ten best levels: asks, then bids, digits without the point or leading zeros."""
    text = "".join(
        part.replace(".", "").lstrip("0")
        for side in (book.asks, book.bids)
        for level in side[:_CHECKED]
        for part in (digits.price(level.price), digits.quantity(level.quantity))
    )
    return zlib.crc32(text.encode())


def snapshot_frame(symbol: str, digits: Digits, book: Book, time: str) -> str:
    """Return the snapshot of the book channel."""
    return _frame("snapshot", symbol, digits, book, book, time)


def update_frame(symbol: str, digits: Digits, before: Book, book: Book, time: str) -> str | None:
    """Return the update from one book to the next; None if nothing has changed."""
    changed = Book(changes(before.bids, book.bids), changes(before.asks, book.asks))
    if not any(changed):
        return None
    return _frame("update", symbol, digits, changed, book, time)


def _frame(kind: str, symbol: str, digits: Digits, shown: Book, book: Book, time: str) -> str:
    bids, asks = (
        ",".join(f'{{"price":{digits.price(level.price)},"qty":{digits.quantity(level.quantity)}}}' for level in side)
        for side in shown
    )
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
        f'"checksum":{checksum(book, digits)},"timestamp":"{time}"}}]}}'
    )
