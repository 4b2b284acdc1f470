"""A gateway that starts over and over waits before it connects to Kraken again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress_common.model import InstanceState, Status
from ingress_common.payloads import encode_status
from ingress_common.topics import Topics
from kraken_gateway.kraken.limits import WINDOW
from kraken_gateway.restart_pause import ALLOWED, DETAIL, earlier_starts, pause_before

TOPICS = Topics()


@given(st.lists(st.floats(0, 700), max_size=60))
def test_never_more_starts_than_allowed_in_any_window(pauses):
    now, starts = 0.0, []
    for pause in pauses:
        now += pause
        now += pause_before([at for at in starts if at > now - WINDOW], now)
        starts.append(now)
        assert len([at for at in starts if at > now - WINDOW + 1e-6]) <= ALLOWED


@pytest.mark.parametrize("found", [[1000.0, 1500.0], [], "nonsense", [True, None, "x"], None])
async def test_starts_are_read_from_the_retained_status_whatever_it_holds(broker, open_bus, found):
    details = {} if found is None else {DETAIL: found}
    status = Status("kraken-gateway", "gw", InstanceState.OFFLINE, "1", 1500.0, details)
    async with open_bus("someone", None) as bus:
        await bus.publish(TOPICS.status("kraken-gateway", "gw"), encode_status(status), retain=True)
    expected = (1000.0, 1500.0) if found == [1000.0, 1500.0] else ()
    assert await earlier_starts(open_bus, TOPICS, "gw", 1550.0) == expected
    assert await earlier_starts(open_bus, TOPICS, "gw", 9999.0) == ()


async def test_no_retained_status_is_no_start(open_bus):
    assert await earlier_starts(open_bus, TOPICS, "gw", 0.0) == ()
