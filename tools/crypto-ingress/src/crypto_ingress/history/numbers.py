"""Exact decimals in columns: `pl.Decimal`, 128-bit integers with a common scale. Sums and comparisons are exact.

Multiplication rounds to the larger of the two scales; for an exact product, widen the scale first.
"""

from decimal import Context, Decimal

import polars as pl

from ingress_common.decimals import plain

DIGITS = 18
"""Maximum number of digits in a file before, and after, the decimal point."""

VOLUME_DECIMALS = 14
"""Maximum number of decimals of a volume. Kraken has at most 10; further ones are noise of floats and are rounded."""

MAXIMUM_DIGITS = 38
"""Maximum number of digits of a 128-bit decimal."""

_SIGNIFICANT = 18  # decision 5
_MOST_DIVISOR = 10**20  # times a quotient of 18 digits that still fits
_ONE, _TWO = pl.lit(1, dtype=pl.Int128), pl.lit(2, dtype=pl.Int128)
_quotient = Context(prec=_SIGNIFICANT).divide


class TooManyDigitsError(ValueError):
    """A product of two numbers does not fit into 128 bits. No real market has such numbers."""


def without_exponents(texts: pl.Series) -> pl.Series:
    """The same numbers without exponents: `1E+1` becomes `10.0`. DecimalException if a text is not a number."""
    marked = texts.str.contains("e", literal=True) | texts.str.contains("E", literal=True)
    if not marked.any():
        return texts
    rewritten = [plain(Decimal(text)) for text in texts.filter(marked)]
    return texts.scatter(marked.arg_true(), pl.Series(rewritten, dtype=pl.String))


def decimals_in(texts: pl.Series) -> int:
    """The maximum number of decimals of the plain numbers `texts`, at least 1."""
    point = texts.str.find(".", literal=True).cast(pl.Int64)
    longest = (texts.str.len_bytes().cast(pl.Int64) - point - 1).max()
    return longest if isinstance(longest, int) and longest > 0 else 1


def scale_of(column: pl.Series) -> int:
    """The scale of a column of decimals. TypeError for another column."""
    kind = column.dtype
    if not isinstance(kind, pl.Decimal):
        raise TypeError(f"expected a column of decimals, got {kind}")
    return kind.scale


def decimal(scale: int) -> pl.Decimal:
    """The polars type of decimals with `scale` digits after the point."""
    return pl.Decimal(MAXIMUM_DIGITS, scale)


def quotients(dividends: pl.Series, divisors: pl.Series) -> pl.Series:
    """Quotients as text with 18 significant digits, rounded half to even; null where the divisor is 0.

    No column type keeps significant digits, so each row is scaled by the power of ten that leaves 18 of them. Rows that
    do not fit into 128 bits that way, or need 18 or more decimals, are divided one by one.
    """
    scale = scale_of(dividends) - scale_of(divisors)
    n, v = dividends.to_physical().cast(pl.Int128), divisors.to_physical().cast(pl.Int128)
    rows = pl.DataFrame({"n": n, "v": v}).with_columns(
        # An estimate by floats; `quick` below excludes rows for which it is wrong.
        digits=(pl.col("n").cast(pl.Float64) / pl.col("v").cast(pl.Float64))
        .log10()
        .floor()
        .cast(pl.Int64, strict=False)
    )
    shift = (_SIGNIFICANT - 1 - pl.col("digits")).clip(0, _SIGNIFICANT)
    powers = pl.lit(pl.Series([10**power for power in range(_SIGNIFICANT + 1)], dtype=pl.Int128))
    rows = rows.with_columns(shift=shift, one=pl.max_horizontal("v", pl.lit(1, dtype=pl.Int128)))
    rows = rows.with_columns(n=pl.col("n") * powers.gather(pl.col("shift").fill_null(0)))
    rows = rows.with_columns(q=pl.col("n") // pl.col("one"))
    rows = rows.with_columns(twice=(pl.col("n") - pl.col("q") * pl.col("one")) * _TWO)
    up = (pl.col("twice") > pl.col("one")) | ((pl.col("twice") == pl.col("one")) & (pl.col("q") % _TWO == _ONE))
    rows = rows.with_columns(text=(pl.col("q") + up.cast(pl.Int128)).cast(pl.String))
    whole = _SIGNIFICANT - scale - pl.col("shift")  # digits before the point
    quick = (
        (pl.col("q") >= pl.lit(10 ** (_SIGNIFICANT - 1), dtype=pl.Int128))
        & (pl.col("text").str.len_bytes() == _SIGNIFICANT)
        & whole.is_between(1, _SIGNIFICANT - 1)
        & (pl.col("v").is_between(1, _MOST_DIVISOR))
    )
    texts = rows.select(
        pl.when(quick).then(
            pl.concat_str(pl.col("text").str.slice(0, whole), pl.lit("."), pl.col("text").str.slice(whole))
        )
    ).to_series()
    left = texts.is_null().arg_true()
    if not left.len():
        return texts
    one_by_one = [
        _divided(a, b, -scale) for a, b in zip(n.gather(left).to_list(), v.gather(left).to_list(), strict=True)
    ]
    return texts.scatter(left, pl.Series(one_by_one, dtype=pl.String))


def _divided(dividend: int, divisor: int, shift: int) -> str | None:
    return plain(_quotient(Decimal(dividend), Decimal(divisor)).scaleb(shift)) if divisor else None
