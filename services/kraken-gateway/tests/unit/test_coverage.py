"""What a feed covers, and up to when: by Kraken's stamps while there is a backlog, by receipt when there is none."""

from ingress_common.model import GRACE
from kraken_gateway.kraken.connection import Received
from kraken_gateway.kraken.protocol import Heartbeat, OhlcFrame, Pong, sent_at
from kraken_gateway.live.coverage import CoverageTracker

LIVE = {"A/B": 600.0}


def tracker() -> CoverageTracker:
    """One that covers A/B from 1000 on."""
    tracker = CoverageTracker(since_after=0.0)
    assert tracker.cover(LIVE, {}, begun=1000.0, steady=0.0).since == 1000.0
    return tracker


def received(frame, at: float) -> Received:
    return Received(frame, "", at, at, sent_at(frame), interrupted=False)


def test_heartbeat_covers_its_receipt_when_no_frame_waits():
    marks = tracker()
    marks.processed(received(Heartbeat(), 1100.0), in_order=True)
    assert marks.advance(1.0, caught_up=True).watermark == 1100.0 - GRACE


def test_heartbeat_covers_nothing_while_frames_wait():
    marks = tracker()
    marks.processed(received(Heartbeat(), 1100.0), in_order=True)
    assert marks.advance(1.0, caught_up=False) is None


def test_behind_the_watermark_follows_the_stamps_of_what_is_published():
    marks = tracker()
    marks.processed(received(OhlcFrame(snapshot=False, timestamp=1100.0, rows=()), 1150.0), in_order=True)
    reach = marks.advance(1.0, caught_up=False)
    assert (reach.watermark, reach.at) == (1100.0 - GRACE, 1150.0)


def test_delayed_frame_covers_the_time_of_its_stamp():
    marks = tracker()
    marks.processed(received(Pong(1, 1100.0), 1150.0), in_order=True)
    assert marks.advance(1.0, caught_up=True).watermark == 1100.0


def test_updates_that_were_moved_back_hold_the_watermark():
    marks = tracker()
    marks.processed(received(OhlcFrame(snapshot=False, timestamp=1100.0, rows=()), 1100.1), in_order=False)
    assert marks.advance(1.0, caught_up=False) is None


def test_watermark_is_published_once_a_second_and_at_once_when_it_ends_a_minute():
    marks = tracker()
    found = []
    for tenth in range(1, 400):
        at = 1000.0 + tenth / 10
        marks.processed(received(Heartbeat(), at), in_order=True)
        if reach := marks.advance(tenth / 10, caught_up=True):
            found.append(reach)
    assert [reach.watermark >= 1020.0 for reach in found if reach.ends_minute] == [True]
    first = next(reach for reach in found if reach.ends_minute)
    assert first.watermark < 1020.2
    assert 40 <= len(found) <= 55


def test_excluded_symbol_leaves_at_once_and_additions_are_grouped():
    marks = tracker()
    assert marks.cover({**LIVE, "C/D": 600.0}, {}, 1000.0, 0.1) is None
    assert marks.cover({**LIVE, "C/D": 600.0}, {}, 1000.0, 0.3).symbols == ("A/B", "C/D")
    assert marks.cover(LIVE, {}, 1000.0, 0.31).symbols == ("A/B",)
