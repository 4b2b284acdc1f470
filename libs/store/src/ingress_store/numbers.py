"""Numbers read from a store."""

from decimal import Decimal


def decimal_of(text: str) -> Decimal:
    """The exact value of `text`, with a decimal point and without an exponent.

    A reader that infers a column's type from its first rows would truncate decimals after a `77400`.
    """
    if "." in text and "e" not in text and "E" not in text:
        return Decimal(text)
    plain = f"{Decimal(text):f}"
    return Decimal(plain if "." in plain else plain + ".0")
