import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.kraken.protocol import CHUNK
from kraken_gateway.live.subscriptions import (
    READABLE_SECONDS,
    RETRY_REJECTED_SECONDS,
    UNREADABLE_SECONDS,
    Subscribe,
    Subscriptions,
    Unsubscribe,
)


def requested(*symbols: str) -> Subscriptions:
    """Subscriptions whose `symbols` were requested as request 1 at time 0."""
    subscriptions = Subscriptions()
    subscriptions.want(symbols, {}, 0.0)
    request = subscriptions.next_request(0.0)
    assert request == Subscribe(tuple(sorted(symbols)))
    subscriptions.sent(request, 1, 0.0)
    return subscriptions


def test_symbol_is_ready_after_ack_and_snapshot_in_either_order():
    subscriptions = requested("A/B", "C/D")
    subscriptions.on_ack("A/B", "subscribe", 1.0)
    subscriptions.on_snapshot("C/D", 60.0)
    assert subscriptions.live() == {}
    subscriptions.on_snapshot("A/B", 120.0)
    subscriptions.on_ack("C/D", "subscribe", 1.0)
    assert subscriptions.live() == {"A/B": 120.0, "C/D": 60.0}


def test_messages_have_a_maximum_of_symbols():
    subscriptions = Subscriptions()
    subscriptions.want([f"S{n}/USD" for n in range(CHUNK + 1)], {}, 0.0)
    sizes = []
    while request := subscriptions.next_request(0.0):
        subscriptions.sent(request, len(sizes), 0.0)
        sizes.append(len(request.symbols))
    assert sizes == [CHUNK, 1]


def test_refusal_without_symbol_means_all_of_its_request():
    subscriptions = requested("A/B", "C/D")
    assert set(subscriptions.on_refusal(1, None, "Subscription ohlc interval not supported", 1.0)) == {"A/B", "C/D"}
    assert subscriptions.on_refusal(None, None, "something", 1.0) == ()


def test_rejected_symbol_is_retried_later_and_listed_meanwhile():
    subscriptions = requested("X/Y")
    subscriptions.on_refusal(1, "X/Y", "Currency pair not supported X/Y", 1.0)
    assert subscriptions.all_rejected()
    assert subscriptions.next_request(RETRY_REJECTED_SECONDS) is None
    assert subscriptions.next_request(RETRY_REJECTED_SECONDS + 2) == Subscribe(("X/Y",))
    assert "X/Y" in subscriptions.rejected()


def test_already_subscribed_counts_as_ack_if_the_snapshot_is_there_and_is_ended_if_not():
    subscriptions = requested("A/B", "C/D")
    subscriptions.on_snapshot("A/B", 60.0)
    for symbol in ("A/B", "C/D"):
        error = "Already subscribed to one ohlc interval on this symbol"
        assert subscriptions.on_refusal(1, symbol, error, 1.0) == ()
    assert subscriptions.live() == {"A/B": 60.0}
    assert subscriptions.next_request(1.0) == Unsubscribe(("C/D",))


def test_broken_symbol_is_unsubscribed_and_resubscribed():
    subscriptions = requested("A/B")
    subscriptions.on_ack("A/B", "subscribe", 0.0)
    subscriptions.on_snapshot("A/B", 60.0)
    subscriptions.on_broken("A/B", 5.0)
    assert subscriptions.live() == {}
    due = subscriptions.next_due()
    ending = subscriptions.next_request(due)
    assert ending == Unsubscribe(("A/B",))
    subscriptions.sent(ending, 2, due)
    assert subscriptions.next_request(due) is None
    subscriptions.on_ack("A/B", "unsubscribe", due + 1)
    assert subscriptions.next_request(due + 1) == Subscribe(("A/B",))


def live(*symbols: str) -> Subscriptions:
    """Subscriptions of which all `symbols` are live at time 0."""
    subscriptions = requested(*symbols)
    for symbol in symbols:
        subscriptions.on_ack(symbol, "subscribe", 0.0)
        subscriptions.on_snapshot(symbol, 60.0)
    return subscriptions


@pytest.mark.parametrize("seconds", [1, 40, 150, 3600])
def test_symbol_returns_soon_after_its_rows_are_readable_and_is_not_covered_before(seconds):
    subscriptions = live("A/B")
    for now in range(seconds):
        subscriptions.on_broken("A/B", now)
        assert subscriptions.next_request(now) is None
    last = seconds - 1
    subscriptions.on_update("A/B", last + 0.5)
    assert subscriptions.live() == {}
    assert subscriptions.next_due() == last + READABLE_SECONDS
    assert subscriptions.next_request(last + READABLE_SECONDS) == Unsubscribe(("A/B",))


def test_symbol_some_of_whose_rows_are_unreadable_is_not_resubscribed():
    subscriptions = live("A/B")
    for now in range(0, 600, 5):
        subscriptions.on_broken("A/B", now)
        subscriptions.on_update("A/B", now + 2)
        assert subscriptions.next_request(now + 2) is None


def test_symbol_without_rows_after_an_unreadable_one_is_resubscribed():
    subscriptions = live("A/B")
    subscriptions.on_broken("A/B", 0.0)
    assert subscriptions.next_due() == UNREADABLE_SECONDS
    assert subscriptions.next_request(UNREADABLE_SECONDS) == Unsubscribe(("A/B",))


def test_many_symbols_that_return_together_share_messages():
    symbols = [f"S{n}/USD" for n in range(CHUNK)]
    subscriptions = live(*symbols)
    for now in range(60):
        for symbol in symbols:
            subscriptions.on_broken(symbol, now)
        assert subscriptions.next_request(now) is None
    assert len(subscriptions.next_request(59 + UNREADABLE_SECONDS).symbols) == CHUNK


def test_symbol_without_a_snapshot_is_requested_again_within_half_a_minute():
    subscriptions, now = requested("A/B"), 0.0
    for req_id in range(20):
        subscriptions.on_ack("A/B", "subscribe", now)
        before, now = now, subscriptions.next_due()
        assert now - before <= 30.0
        subscriptions.sent(subscriptions.next_request(now), req_id, now)
        subscriptions.on_ack("A/B", "unsubscribe", now)
        subscriptions.sent(subscriptions.next_request(now), req_id, now)


def test_returning_symbol_is_unsubscribed_first():
    subscriptions = requested("A/B")
    subscriptions.want([], {}, 1.0)
    subscriptions.want(["A/B"], {}, 1.0)
    assert subscriptions.next_request(1.0) == Unsubscribe(("A/B",))


class _Kraken:
    """Loses messages now and then, and otherwise responds by the protocol."""

    def __init__(self) -> None:
        self.subscribed: set[str] = set()

    def respond(self, subscriptions: Subscriptions, request, req_id: int, now: float, lost: bool, mute: bool) -> None:
        if lost:
            return
        for symbol in request.symbols:
            if isinstance(request, Unsubscribe):
                self.subscribed.discard(symbol)
                if not mute:
                    subscriptions.on_ack(symbol, "unsubscribe", now)
            elif symbol in self.subscribed:
                if not mute:
                    subscriptions.on_refusal(req_id, symbol, "Already subscribed to one ohlc interval", now)
            else:
                self.subscribed.add(symbol)
                if not mute:
                    subscriptions.on_ack(symbol, "subscribe", now)
                    subscriptions.on_snapshot(symbol, 60.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8), st.lists(st.booleans(), max_size=3))
def test_every_symbol_becomes_live_despite_losses(faults, breaks):
    subscriptions, kraken, now = Subscriptions(), _Kraken(), 0.0
    subscriptions.want(["A/B", "C/D"], {}, now)
    steps = iter(faults)
    broken = iter(breaks)
    for req_id in range(200):
        while (request := subscriptions.next_request(now)) is not None:
            subscriptions.sent(request, req_id, now)
            lost, mute = next(steps, (False, False))
            kraken.respond(subscriptions, request, req_id, now, lost, mute)
        if len(subscriptions.live()) == 2 and next(broken, False):
            subscriptions.on_broken("A/B", now)
        due = subscriptions.next_due()
        if due == float("inf"):
            break
        now = max(now, due)
    assert set(subscriptions.live()) == {"A/B", "C/D"}
    assert kraken.subscribed == {"A/B", "C/D"}
