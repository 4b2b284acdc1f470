"""What time it is, by the gateways."""

from hypothesis import given
from hypothesis import strategies as st

from influx_writer.gateway_time import GatewayTime

MONTH = 30 * 86_400.0


class Clocks:
    """Ours, and one that never steps."""

    def __init__(self) -> None:
        self.ours = 1_700_000_000.0
        self.steady = 0.0
        self.time = GatewayTime(lambda: self.ours, lambda: self.steady)

    def run(self, seconds: float) -> None:
        self.ours += seconds
        self.steady += seconds


def test_time_before_the_first_watermark_is_our_clocks():
    clocks = Clocks()
    assert clocks.time.now() == clocks.ours


def test_slow_clock_is_corrected_by_watermarks():
    clocks = Clocks()
    clocks.time.received(clocks.ours + MONTH)
    clocks.run(3)
    assert clocks.time.now() == clocks.ours + MONTH


def test_corrected_clock_is_followed():
    clocks = Clocks()
    clocks.time.received(clocks.ours + MONTH)
    clocks.ours += MONTH
    clocks.time.received(clocks.ours)
    assert clocks.time.now() == clocks.ours


def test_a_step_of_our_clock_changes_nothing_that_watermarks_have_shown():
    clocks = Clocks()
    clocks.time.received(clocks.ours)
    before = clocks.ours
    clocks.ours -= MONTH
    clocks.run(0.5)
    assert (clocks.time.now(), clocks.time.latest()) == (before + 0.5, before + 0.5)
    clocks.ours += 2 * MONTH
    assert (clocks.time.now(), clocks.time.latest()) == (before + 0.5, clocks.ours)


def test_krakens_time_after_a_suspension_is_followed_within_seconds():
    clocks = Clocks()
    clocks.time.received(clocks.ours)
    clocks.ours += 600
    for _ in range(12):
        clocks.time.received(clocks.ours)
        clocks.run(1)
    assert clocks.time.now() == clocks.ours


@given(st.lists(st.lists(st.floats(0, 100 * MONTH), max_size=5), max_size=40))
def test_watermarks_from_the_future_change_nothing_beside_real_ones(seconds):
    clocks = Clocks()
    clocks.time.received(clocks.ours)
    for forged in seconds:
        clocks.run(1)
        clocks.time.received(clocks.ours)
        for ahead in forged:
            clocks.time.received(clocks.ours + ahead)
        assert clocks.time.now() == clocks.ours
