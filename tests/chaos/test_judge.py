"""The judge on hand-made examples: it must find each kind of error, and nothing in right data."""

from dataclasses import replace
from decimal import Decimal

from chaos.judge import StoredRow, TrueCandle, Truth, Verdict, judge_retained, judge_store

NOW = 600 + 20.0
"""Ten minutes have ended, and what belongs to them has had its time."""


def true(open_time: int, close: str, *, first: str | None = None, trades: int = 3) -> TrueCandle:
    begin, last = Decimal(first or close), Decimal(close)
    return TrueCandle(open_time, begin, max(begin, last) + 1, min(begin, last) - 1, last, Decimal("0.5"), trades)


TRUTH = Truth((true(0, "100"), true(60, "101"), true(240, "104", first="102"), true(540, "105")))
"""Minutes 0, 1, 4 and 9 traded."""


def of(candle: TrueCandle, **changes) -> StoredRow:
    """The row that a candle should be."""
    row = StoredRow(
        symbol="BTC/USD",
        timeframe="1m",
        open_time=candle.open_time,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
        vwap=candle.close,
        trades=candle.trades,
        closed=True,
        infilled=False,
        complete=True,
    )
    return replace(row, **changes)


def flat(open_time: int, price: str, **changes) -> StoredRow:
    """The row of a minute without trades."""
    at = Decimal(price)
    zero = Decimal(0)
    return of(TrueCandle(open_time, at, at, at, at, zero, 0), infilled=True, vwap=at, **changes)


def right() -> list[StoredRow]:
    """What the store should hold."""
    rows = [of(candle) for candle in TRUTH.candles]
    rows += [flat(60 * minute, "101") for minute in (2, 3)] + [flat(60 * minute, "104") for minute in (5, 6, 7, 8)]
    return sorted(rows, key=lambda row: row.open_time)


def verdicts(rows: list[StoredRow], since: float = 0, now: float = NOW) -> list[tuple[Verdict, int]]:
    findings, _ = judge_store(rows, TRUTH, "BTC/USD", "1m", since=since, now=now)
    return [(finding.verdict, finding.open_time) for finding in findings]


def changed(minute: int, **changes) -> list[StoredRow]:
    """The right rows, and one of them otherwise."""
    return [replace(row, **changes) if row.open_time == 60 * minute else row for row in right()]


def test_right_candles_have_no_findings():
    findings, compared = judge_store(right(), TRUTH, "BTC/USD", "1m", since=0, now=NOW)
    assert findings == []
    assert compared == 10


def test_absent_candle_is_missing_with_or_without_trades():
    rows = [row for row in right() if row.open_time not in (180, 240)]
    assert verdicts(rows) == [(Verdict.MISSING, 180), (Verdict.MISSING, 240)]


def test_last_candle_is_missing_after_its_grace():
    rows = right()[:-1]
    assert verdicts(rows, now=610) == []
    assert verdicts(rows, now=616) == [(Verdict.MISSING, 540)]


def test_empty_store_lacks_everything_since_the_start_of_the_run():
    assert verdicts([], since=410) == [(Verdict.MISSING, 420), (Verdict.MISSING, 480), (Verdict.MISSING, 540)]


def test_what_is_stored_first_begins_the_comparison_where_it_is_older_than_the_run():
    rows = [row for row in right() if row.open_time not in (0, 120)]
    assert verdicts(rows, since=410) == [(Verdict.MISSING, 120)]


def test_candle_left_forming_is_missing_and_reported_as_forming():
    findings, _ = judge_store(changed(4, closed=False), TRUTH, "BTC/USD", "1m", since=0, now=NOW)
    assert [(finding.verdict, finding.open_time) for finding in findings] == [(Verdict.MISSING, 240)]
    assert "left forming" in findings[0].text


def test_each_number_that_differs_is_wrong():
    for name in ("open", "high", "low", "close"):
        assert verdicts(changed(4, **{name: Decimal("103.5")})) == [(Verdict.WRONG, 240)], name
    assert verdicts(changed(4, trades=2)) == [(Verdict.WRONG, 240)]
    assert verdicts(changed(4, volume=Decimal("0.500001"))) == [(Verdict.WRONG, 240)]
    assert verdicts(changed(4, vwap=Decimal(200))) == [(Verdict.WRONG, 240)]


def test_a_float_of_the_true_volume_is_right():
    assert verdicts(changed(4, volume=Decimal(repr(0.1 + 0.4 + 1e-16)))) == []


def test_a_flat_candle_where_there_were_trades_is_wrong():
    rows = [flat(240, "101") if row.open_time == 240 else row for row in right()]
    assert verdicts(rows) == [(Verdict.WRONG, 240)]


def test_trades_where_there_were_none_are_invented():
    assert verdicts(changed(2, trades=1, volume=Decimal(1), infilled=False)) == [(Verdict.INVENTED, 120)]


def test_a_flat_candle_at_an_older_price_is_wrong_and_at_a_price_that_never_was_the_last_invented():
    older, never = Decimal(100), Decimal("101.5")
    assert verdicts(changed(2, open=older, high=older, low=older, close=older, vwap=older)) == [(Verdict.WRONG, 120)]
    assert verdicts(changed(2, open=never, high=never, low=never, close=never, vwap=never)) == [(Verdict.INVENTED, 120)]


def test_a_flat_candle_before_the_first_trade_is_invented():
    assert verdicts([flat(-60, "99"), *right()]) == [(Verdict.INVENTED, -60)]


def test_incomplete_candle_is_wrong_if_the_store_has_the_field():
    assert verdicts(changed(4, complete=False)) == [(Verdict.WRONG, 240)]
    assert verdicts(changed(2, complete=False)) == [(Verdict.WRONG, 120)]
    assert verdicts(changed(4, complete=None)) == []


def test_two_rows_of_one_identity_are_a_duplicate():
    twice = [*right(), replace(right()[4], series="another")]
    assert verdicts(twice) == [(Verdict.DUPLICATE, 240)]


def test_a_candle_that_is_closed_before_its_end_is_invented():
    early = [*right(), flat(600, "105")]
    assert verdicts(early) == [(Verdict.INVENTED, 600)]


def test_a_finding_shows_the_candles_around_it():
    findings, _ = judge_store(changed(4, trades=2), TRUTH, "BTC/USD", "1m", since=0, now=NOW)
    assert len(findings[0].neighbours) == 5
    assert "1970-01-01 00:03:00" in str(findings[0])


def retained(row: StoredRow | None, now: float = NOW) -> list[Verdict]:
    return [finding.verdict for finding in judge_retained(row, TRUTH, "BTC/USD", "1m", now=now)]


def test_the_newest_closed_candle_or_the_forming_one_may_be_retained():
    forming = of(true(600, "105"), closed=False)
    truth = Truth((*TRUTH.candles, true(600, "106", first="105", trades=5)))
    assert retained(of(TRUTH.candles[-1])) == []
    assert judge_retained(forming, truth, "BTC/USD", "1m", now=NOW) == []
    assert retained(flat(600, "105", closed=False)) == []


def test_a_topic_without_a_candle_or_with_an_old_one_lacks_it():
    assert retained(None) == [Verdict.MISSING]
    assert retained(flat(480, "104")) == [Verdict.MISSING]
    assert retained(of(TRUTH.candles[-1], closed=False)) == [Verdict.MISSING]


def test_a_retained_candle_with_other_numbers_is_wrong():
    assert retained(of(TRUTH.candles[-1], close=Decimal(104))) == [Verdict.WRONG]
    assert retained(flat(600, "104", closed=False)) == [Verdict.WRONG]
    assert retained(of(TRUTH.candles[-1], symbol="ETH/USD")) == [Verdict.WRONG]


def test_a_forming_candle_with_more_trades_than_were_made_is_invented():
    truth = Truth((*TRUTH.candles, true(600, "106", trades=5)))
    row = of(true(600, "106", trades=6), closed=False)
    assert [f.verdict for f in judge_retained(row, truth, "BTC/USD", "1m", now=NOW)] == [Verdict.INVENTED]
    assert retained(of(true(600, "106"), closed=False)) == [Verdict.INVENTED]


def test_a_window_that_began_while_the_topics_were_being_read_is_no_invention():
    truth = Truth((*TRUTH.candles, true(600, "106", trades=5)))
    row = of(true(600, "106", trades=5), closed=False)
    assert [f.verdict for f in judge_retained(row, truth, "BTC/USD", "1m", now=599.0)] == [Verdict.INVENTED]
    assert judge_retained(row, truth, "BTC/USD", "1m", now=599.0, read_by=603.0) == []
