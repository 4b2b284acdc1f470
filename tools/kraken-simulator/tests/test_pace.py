import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_simulator.pace import MAX_TICKS, Plan, factor_for
from kraken_simulator.profiles import default_profiles
from kraken_simulator.schedule import Schedule
from kraken_simulator.sources.synthetic import SyntheticSource, usual_rate

from .conftest import MINUTE_START, Client, running

STEP = 0.05


@pytest.mark.parametrize("ticks", [25, 500, 5_000])
def test_markets_together_make_the_requested_updates(ticks: int) -> None:
    profiles = default_profiles(1_449)
    pace = factor_for(ticks, [usual_rate(profile) for profile in profiles], STEP)
    seconds = max(1, 10_000 // ticks)
    updates = 0
    for profile in profiles:
        source = SyntheticSource(profile, seed=1, epoch=int(MINUTE_START), history=(), pace=pace)
        trades = source.take_until(int(MINUTE_START + seconds) * 10**9)
        updates += len({int(trade.time / 1e9 / STEP) for trade in trades})
    assert updates / seconds == pytest.approx(ticks, rel=0.1)


@pytest.mark.parametrize("count", [1, 8])
def test_too_few_markets_for_the_rate_make_the_most_ticks_that_are_allowed(count: int) -> None:
    rates = [usual_rate(profile) for profile in default_profiles(count)]
    assert factor_for(10_000, rates, STEP) * sum(rates) == pytest.approx(MAX_TICKS)


def test_rate_without_markets_is_no_error() -> None:
    assert factor_for(100, [], STEP) == 1.0


def test_burst_repeats_and_does_not_begin_at_the_start() -> None:
    plan = Plan(100, burst_ticks=1_000, burst_seconds=10, burst_every=60)
    assert [plan.ticks_at(moment) for moment in (0, 59, 60, 69, 70, 119, 125, 131)] == [
        *(100, 100, 1_000, 1_000, 100, 100, 1_000, 100)
    ]
    assert Plan().ticks_at(1_000) is None


async def drive(client: Client, seconds: int) -> int:
    before = client.simulator.exchange.stats.updates_sent
    for _ in range(seconds * 20):
        client.clock.advance(STEP)
        client.simulator.exchange.step()
    return client.simulator.exchange.stats.updates_sent - before


async def test_rate_can_be_set_for_a_while_and_ended() -> None:
    async with running(symbols=40, rate=25, history_weeks=1, poll_seconds=STEP) as client, client.connect() as socket:
        await socket.subscribe(*client.simulator.symbols)
        for _ in client.simulator.symbols:
            await socket.frame(type="snapshot")
        assert await drive(client, 20) == pytest.approx(25 * 20, rel=0.25)
        status, body = await client.control("POST", "/rate", {"ticks": 200, "seconds": 10})
        assert (status, body) == (201, {"ticks": 200})
        assert await drive(client, 9) == pytest.approx(200 * 9, rel=0.2)
        await drive(client, 2)
        assert (await client.control("GET", "/rate"))[1] == {"ticks": 25}
        await client.control("POST", "/rate", {"ticks": 300})
        assert (await client.control("DELETE", "/rate"))[1] == {"ticks": 25}


@pytest.mark.parametrize(
    "body",
    [{}, {"ticks": 0}, {"ticks": "many"}, {"ticks": 5, "seconds": -1}, {"ticks": 5, "x": 1}],
)
async def test_wrong_rate_is_refused(client: Client, body: dict[str, object]) -> None:
    assert (await client.control("POST", "/rate", body))[0] == 400


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 20) | st.none())), st.integers(0, 20))
def test_schedule_gives_each_symbol_once_at_the_time_set_last(entries: list[tuple[str, int | None]], now: int) -> None:
    schedule = Schedule()
    for symbol, time in entries:
        schedule.set(symbol, time)
    last = dict(entries)
    due = schedule.take_due(now)
    assert sorted(due) == sorted(symbol for symbol, time in last.items() if time is not None and time <= now)
    assert schedule.take_due(now) == []
