"""Prices and volumes: exact decimals, and how they are written."""

from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Subnormal

DIGITS = 30
"""Maximum number of digits, and maximum power of ten, of a price or volume. Kraken's numbers have about 15 digits."""

ZERO = Decimal(0)
INFINITE = Decimal("Infinity")

to_digits = Context(
    prec=DIGITS, Emax=DIGITS, Emin=-DIGITS, traps=[Clamped, Inexact, InvalidOperation, Overflow, Subnormal]
).plus
"""Return a number unchanged. DecimalException if it has more than `DIGITS` digits or a power of ten beyond `DIGITS`.

Infinity and NaN pass: compare with `INFINITE` to refuse them.
"""


def plain(number: Decimal) -> str:
    """`number` with its exact digits, always with a decimal point and never with an exponent.

    `77400` becomes `77400.0` and `1.2E-7` becomes `0.00000012`. A reader that infers a column's type from its first
    rows would take a number without a point for an integer and truncate later decimals.
    """
    text = str(number)
    if "E" in text:
        text = f"{number:f}"
    return text if "." in text else text + ".0"
