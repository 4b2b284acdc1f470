"""Prices and quantities as text, with the pair's current decimals, or more if an older value needs them."""

from dataclasses import dataclass

from kraken_simulator.pairs import VOLUME_UNITS
from kraken_simulator.text import fixed


@dataclass(frozen=True, slots=True)
class Digits:
    """The text format of a market's integers.

    Prices are in units of `scale` decimals, quantities in units of 1e-8; the text has `price_decimals` and
    `qty_decimals`. A value from before a change to fewer decimals keeps its own decimals, without rounding.
    """

    price_decimals: int
    qty_decimals: int
    scale: int

    @property
    def price_step(self) -> int:
        """The smallest price step in units."""
        return int(10 ** (self.scale - self.price_decimals))

    @property
    def qty_step(self) -> int:
        """The smallest quantity step in units."""
        return int(10 ** (VOLUME_UNITS - self.qty_decimals))

    def price(self, units: int) -> str:
        """Return a price as text."""
        return _text(units, self.scale, self.price_decimals)

    def quantity(self, units: int) -> str:
        """Return a quantity or volume as text."""
        return _text(units, VOLUME_UNITS, self.qty_decimals)

    def vwap(self, turnover: int, volume: int, close: int) -> str:
        """Return turnover divided by volume, truncated to the pair's decimals (fact 12); `close` without volume."""
        if not volume:
            return self.price(close)
        return self.price(turnover // volume // self.price_step * self.price_step)


def _text(units: int, scale: int, decimals: int) -> str:
    if scale == decimals:
        return fixed(units, decimals)
    whole, rest = divmod(units, 10 ** (scale - decimals))
    return fixed(units, scale) if rest else fixed(whole, decimals)
