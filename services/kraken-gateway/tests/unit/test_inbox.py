"""The receive queue: nothing is lost that a candle needs, however much waits."""

import pytest
from gateway_world import HEARTBEAT, frame_of
from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.kraken import inbox
from kraken_gateway.kraken.inbox import Inbox
from kraken_gateway.kraken.protocol import OhlcFrame, parse_frame


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(inbox, "CONFLATE_AT", 5)


def taken(box: Inbox) -> list[str]:
    found = []
    while (arrival := box.take()) is not None:
        found.append(arrival.frame)
    return found


def test_few_waiting_frames_keep_their_order(frame):
    box = Inbox(lambda _: pytest.fail("nothing is left out"))
    frames = [frame("update", [{"symbol": "A/B", "begin": 60, "trades": n}]) for n in range(100)]
    for number, text in enumerate(frames):
        box.put(text, float(number))
    assert (len(box), box.oldest(), box.in_order) == (100, 0.0, True)
    assert taken(box) == frames
    assert box.oldest() is None


@given(st.lists(st.sampled_from(["A 60", "A 120", "B 60", "heartbeat", "snapshot"]), max_size=60))
def test_conflation_keeps_the_last_state_of_every_interval(kinds):
    left_out = 0

    def count(frames: int) -> None:
        nonlocal left_out
        left_out += frames

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox, "CONFLATE_AT", 5)
        box = Inbox(count)
        frames, last = [], {}
        for number, kind in enumerate(kinds):
            if kind == "heartbeat":
                frames.append(HEARTBEAT)
            elif kind == "snapshot":
                frames.append(frame_of("snapshot", [{"symbol": "A/B", "begin": 60, "trades": number}], 130.0))
            else:
                name, begin = kind.split()
                row = {"symbol": f"{name}/USD", "begin": int(begin), "trades": number}
                frames.append(frame_of("update", [row], 130.0))
                last[name, begin] = number
            box.put(frames[-1], float(number))
        out = taken(box)
    assert len(out) + left_out == len(frames)
    updates = {}
    for text in out:
        parsed = parse_frame(text)
        if isinstance(parsed, OhlcFrame) and not parsed.snapshot:
            updates[parsed.rows[0].symbol[0], str(parsed.rows[0].open_time)] = parsed.rows[0].trades
    assert updates == last
    others = [text for text in frames if '"update"' not in text]
    assert [text for text in out if '"update"' not in text] == others


@pytest.mark.usefixtures("small")
def test_nothing_is_covered_until_moved_frames_are_processed(frame):
    box = Inbox(lambda _: None)
    for number in range(6):
        box.put(frame("update", [{"symbol": "A/B", "begin": 60, "trades": number}]), float(number))
    box.put(HEARTBEAT, 6.0)
    assert not box.in_order
    box.take()
    assert box.in_order
    assert len(box) == 1


@pytest.mark.usefixtures("small")
def test_frames_that_show_whether_the_stream_is_whole_are_kept_around_a_stall(frame):
    box = Inbox(lambda _: None)
    updates = [frame("update", [{"symbol": "A/B", "begin": 60, "trades": n}]) for n in range(20)]
    for text in updates[:10]:
        box.put(text, 1.0)
    box.put(HEARTBEAT, 9.0)
    for text in updates[10:]:
        box.put(text, 9.0)
    frames = taken(box)
    assert frames[:3] == [updates[9], HEARTBEAT, updates[10]]
    assert frames[-1] == updates[19]
    assert len(frames) < 10
