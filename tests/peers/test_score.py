from peers.score import Observation, Truth, score

FLAT = (3.0, 3.0, 3.0, 3.0, 0.0)
TRADED = (1.0, 4.0, 1.0, 3.0, 0.5)
TRUTH = {"BTC/USD": Truth({0: (TRADED, 7), 120: (TRADED, 2)})}


def seen(open_time, candle, trades=None, at=0.0, closed=None):
    return Observation("BTC/USD", open_time, candle, trades, at, closed)


def test_last_state_of_a_minute_counts():
    result = score([seen(0, FLAT), seen(0, TRADED, 7), seen(120, TRADED, 2)], TRUTH, 0, 180)
    assert (result.traded, result.missing, result.wrong, result.inactive, result.flat) == (2, 0, 0, 1, 0)


def test_minute_that_is_not_there_or_differs_is_counted():
    result = score([seen(0, TRADED, 6)], TRUTH, 0, 180)
    assert (result.missing, result.wrong) == (1, 1)
    assert len(result.examples) == 2


def test_minute_without_trades_is_right_only_flat_at_the_last_price():
    assert score([seen(60, FLAT, 0)], TRUTH, 60, 120).flat == 1
    assert score([seen(60, FLAT, 0)], TRUTH, 60, 120).invented == 0
    assert score([seen(60, TRADED)], TRUTH, 60, 120).invented == 1
    assert score([], TRUTH, 60, 120).invented == 0


def test_newer_candle_closes_the_last_one_unless_the_client_reports_it():
    shown = score([seen(0, TRADED, 7, at=50), seen(120, TRADED, 2, at=125)], TRUTH, 0, 120)
    assert (shown.delays, shown.early) == ([65.0], 0)
    scored = score([seen(0, TRADED, 7, at=61, closed=True), seen(60, FLAT, 0, at=62, closed=False)], TRUTH, 0, 120)
    assert scored.delays == [1.0]


def test_candle_that_is_put_right_later_was_wrong_when_it_was_known_to_be_closed():
    result = score([seen(0, FLAT), seen(60, FLAT), seen(0, TRADED, 7)], TRUTH, 0, 60)
    assert (result.wrong, result.early) == (0, 1)
