"""The view of the bus stays bounded, whoever publishes what."""

import pytest

from admin_api.system.view import AHEAD_SECONDS, MAX_BYTES, MAX_ENTRIES, SILENT_SECONDS, BusView, ViewFullError
from ingress_common.model import FeedCondition, FeedState, Presence, Status, Watermark
from ingress_common.payloads import PayloadError, encode_feed_state, encode_status, encode_watermark
from ingress_common.topics import Topics

NOW = 1_700_000_000.0
TOPICS = Topics()


def tell_of(view: BusView, instance: str, now: float = NOW, **details: object) -> None:
    status = Status("aggregator", instance, Presence.ONLINE, "1", NOW, details)
    view.apply(TOPICS.status("aggregator", instance), encode_status(status), now)


def test_one_instance_too_many_is_refused_while_the_others_speak_and_takes_the_place_of_a_silent_one():
    view = BusView(TOPICS)
    for number in range(MAX_ENTRIES):
        tell_of(view, f"i{number}")
    with pytest.raises(ViewFullError):
        tell_of(view, "new")
    tell_of(view, "i0", NOW + SILENT_SECONDS)
    tell_of(view, "new", NOW + SILENT_SECONDS + 1)
    assert len(view.instances) == MAX_ENTRIES
    assert ("aggregator", "new") in view.instances
    assert ("aggregator", "i0") in view.instances
    assert ("aggregator", "i1") not in view.instances


def test_status_messages_are_bounded_in_bytes():
    view = BusView(TOPICS)
    fit = MAX_BYTES // 199_500
    for number in range(fit):
        tell_of(view, f"i{number}", text="x" * 199_000)
    with pytest.raises(ViewFullError):
        tell_of(view, "new", text="x" * 199_000)
    tell_of(view, "i0", text="y" * 199_000)


def test_a_feed_whose_watermarks_go_on_is_there_though_its_state_is_taken_away():
    view = BusView(TOPICS)
    for feed in ("real", "ghost"):
        state = FeedState(feed, FeedCondition.LIVE, NOW, ("BTC/USD",))
        view.apply(TOPICS.feed(feed), encode_feed_state(state), NOW)
    view.apply(TOPICS.watermark("real"), encode_watermark(Watermark("real", NOW, NOW)), NOW)
    for feed in ("real", "ghost"):
        view.apply(TOPICS.feed(feed), b"", NOW + 1)
    assert list(view.feeds) == ["real"]
    view.apply(TOPICS.feed("real"), b"", NOW + SILENT_SECONDS + 1)
    assert not view.feeds


def test_a_watermark_far_ahead_or_of_another_feed_is_refused():
    view = BusView(TOPICS)
    ahead = Watermark("f", NOW + AHEAD_SECONDS + 1, NOW)
    for topic, mark in ((TOPICS.watermark("f"), ahead), (TOPICS.watermark("g"), Watermark("f", NOW, NOW))):
        with pytest.raises(PayloadError):
            view.apply(topic, encode_watermark(mark), NOW)
    assert not view.feeds
