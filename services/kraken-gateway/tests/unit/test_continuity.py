"""When Kraken sent a frame distinguishes a delay from a cut; the number of frames does not."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from kraken_gateway.kraken.continuity import STALL, Continuity

CUT_AT, CUT_SECONDS = 20.0, 9.0


def missing_frames(frames: list[tuple[float, float | None]]) -> list[float]:
    """When frames were found to be missing; each frame has its receipt, and when it was sent if it has that."""
    continuity = Continuity(0.0)
    return [arrival for arrival, sent in frames if continuity.arrived(arrival, sent)]


def heartbeats(start: float, end: float) -> list[tuple[float, None]]:
    return [(start + n, None) for n in range(int(end - start))]


def test_updates_sent_after_a_stall_prove_nothing():
    # Three busy pairs, five updates within the half second after nine seconds of which everything was lost.
    resumed = CUT_AT + CUT_SECONDS
    burst = [(resumed + 0.1 * n, resumed + 0.1 * n) for n in range(6)]
    assert missing_frames([*heartbeats(0.0, CUT_AT), *burst]) == [resumed]


def test_heartbeats_after_a_cut_wait_for_the_pong_which_shows_it():
    resumed = CUT_AT + CUT_SECONDS
    frames = [*heartbeats(0.0, CUT_AT), (resumed, None), (resumed + 0.05, resumed + 0.03)]
    assert missing_frames(frames) == [resumed + 0.05]


def test_stream_that_only_heartbeats_after_a_stall_counts_as_cut_in_the_end():
    resumed = CUT_AT + CUT_SECONDS
    (found,) = missing_frames([*heartbeats(0.0, CUT_AT), *heartbeats(resumed, resumed + 15)])
    assert resumed + 10 <= found <= resumed + 12


def test_cut_within_delayed_frames_is_found():
    # This process was stopped for 20 s, of which Kraken sent nothing for nine.
    sent = [stamp for second in range(20, 40) if not 25 <= second < 34 for stamp in (second, second + 0.5)]
    assert missing_frames([*heartbeats(0.0, CUT_AT), *((40.0, stamp) for stamp in sent)]) == [40.0]


def test_frames_that_were_left_out_are_not_missing():
    continuity = Continuity(0.0)
    assert not continuity.arrived(30.0, 0.5, in_order=False)
    assert not continuity.arrived(30.0, 29.9, in_order=False)
    assert continuity.pending_since is None


@st.composite
def sent_frames(draw) -> list[tuple[float, bool]]:
    """Frames of 65 s, no two more than 1.1 s apart: when each was sent, and whether it has that."""
    steps = draw(st.lists(st.tuples(st.floats(0.05, 1.1), st.booleans()), min_size=1, max_size=20))
    moments, now = [], 0.0
    for step, dated in cycle(steps):
        # A heartbeat comes when nothing else was sent for a second.
        now += step if dated else 1.0
        if now > 65.0:
            return moments
        moments.append((now, dated))
    raise AssertionError("unreachable")


@given(sent_frames(), st.floats(0.0, 30.0), st.floats(0.0, 30.0))
def test_continuous_stream_is_never_judged_cut(frames, from_, seconds):
    # Whatever was sent while the stream was held up comes at the end of that time, and a pong after it.
    until = from_ + seconds
    received = [(until if from_ < sent < until else sent, sent if dated else None) for sent, dated in frames]
    pong = (until + 0.1, until + 0.05)
    assert missing_frames(sorted([*received, pong], key=lambda frame: frame[0])) == []


@given(sent_frames(), st.floats(3.0, 20.0), st.floats(STALL + 2.2, 30.0), st.floats(0.0, 3.0))
def test_cut_is_found_before_the_stream_counts_as_whole(frames, from_, seconds, late):
    # Nothing of `seconds` arrives, what follows is up to some seconds late, and a pong comes after it.
    until = from_ + seconds
    kept = [(sent, dated) for sent, dated in frames if not from_ < sent < until]
    kept += [(until + 1.0, False), (until + 1.05, True)]
    continuity, found = Continuity(0.0), False
    for sent, dated in sorted(kept):
        arrival = max(sent, until + late) if sent > from_ else sent
        found |= continuity.arrived(arrival, sent if dated else None)
        if sent > until + 1.05:
            break
    assert found
