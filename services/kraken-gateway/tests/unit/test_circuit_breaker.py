"""Who may try when Kraken does not work, with a loop whose time is moved."""

import asyncio

import pytest
from gateway_world import SkippingLoop

from kraken_gateway.kraken.limits import LIMIT, WINDOW, CircuitBreaker


@pytest.fixture
def run():
    loop = SkippingLoop()
    yield loop.run_until_complete
    loop.close()


class Outage:
    """A Kraken that fails until `end`, for `reason`, each attempt taking `seconds`; and feeds that try."""

    def __init__(self, end: float, reason: str = "unreachable", seconds: float = 0.0) -> None:
        self.breaker, self.end, self.reason, self.seconds = CircuitBreaker(), end, reason, seconds
        self.attempts: list[float] = []
        self.trying = 0

    async def feed(self) -> float:
        """Try until it works; gives when it did."""
        loop = asyncio.get_running_loop()
        while True:
            me = object()
            await self.breaker.enter(me)
            self.attempts.append(loop.time())
            await asyncio.sleep(self.seconds)
            if loop.time() >= self.end:
                self.breaker.worked(me)
                return loop.time()
            self.breaker.failed(me, self.reason)

    async def play(self, feeds: int) -> list[float]:
        return await asyncio.gather(*(self.feed() for _ in range(feeds)))


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [("unreachable", 0.0), ("unreachable", 10.0), ("too-many-connects", 0.0), ("too-many-connects", 3.0)],
)
@pytest.mark.parametrize("end", [1.0, 30.0, 200.0, 3600.0])
def test_every_feed_is_back_within_a_minute_of_the_end(run, reason, seconds, end):
    outage = Outage(end, reason, seconds)
    back = run(outage.play(8))
    assert max(back) <= end + 60.0


@pytest.mark.parametrize("feeds", [1, 8, 30])
def test_attempts_of_an_outage_stay_within_the_limit_for_any_number_of_feeds(run, feeds):
    outage = Outage(end=3600.0)
    run(outage.play(feeds))
    # The first ones come before anybody knows.
    for start in outage.attempts:
        assert sum(start <= at < start + WINDOW for at in outage.attempts) <= 100 + 2 * feeds <= LIMIT + feeds


def test_one_attempt_runs_at_a_time_and_a_cancelled_one_frees_its_turn(run):
    async def play() -> list[str]:
        breaker, order = CircuitBreaker(), []
        breaker.failed(object(), "silent")
        first, second = object(), object()

        async def come(who: object, name: str) -> None:
            await breaker.enter(who)
            order.append(name)

        tasks = [asyncio.create_task(come(first, "first")), asyncio.create_task(come(second, "second"))]
        await asyncio.sleep(60.0)
        assert order == ["first"]
        breaker.left(first)
        await asyncio.gather(*tasks)
        return order

    assert run(play()) == ["first", "second"]


def test_successful_attempt_blocks_no_later_one(run):
    async def play() -> float:
        breaker = CircuitBreaker()
        slow, tester, later = object(), object(), object()
        await breaker.enter(slow)
        breaker.failed(object(), "silent")
        await breaker.enter(tester)
        breaker.worked(slow)
        breaker.worked(tester)
        breaker.failed(slow, "cut")
        await breaker.enter(later)
        return asyncio.get_running_loop().time()

    assert run(play()) < 10.0
