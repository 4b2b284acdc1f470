"""How long a recovery took, from hand-made samples."""

from chaos.recovery import Recovery, Sample, Span, recoveries


def samples(text: str) -> list[Sample]:
    """One sample a second: `.` is well, `x` is not."""
    return [Sample(float(at), "down" if mark == "x" else "") for at, mark in enumerate(text)]


def seconds(spans: list[Span], text: str) -> list[float | None]:
    return [recovery.seconds for recovery in recoveries(spans, samples(text))]


def test_a_fault_that_did_no_harm_is_recovered_from_at_once():
    assert seconds([Span(1, 2, 5)], "..........") == [0]


def test_recovery_is_counted_from_the_end_of_the_fault():
    assert seconds([Span(1, 2, 5)], "..xxxxxx..") == [3]


def test_harm_that_shows_only_later_is_counted():
    assert seconds([Span(1, 2, 5)], "." * 30 + "xxxxx" + "." * 50) == [30]


def test_harm_after_the_next_fault_counts_for_that_fault():
    assert seconds([Span(1, 2, 5), Span(2, 20, 25)], "." * 20 + "x" * 10 + "." * 60) == [0, 5]


def test_recovery_counts_from_the_end_of_the_last_overlapping_fault():
    spans = [Span(1, 2, 5), Span(2, 8, 20)]
    assert seconds(spans, "..xxxxxxxxxxxxxxxxxxxxx.." + "." * 80) == [3, 3]


def test_fault_without_recovery_has_no_time_and_a_reason():
    assert recoveries([Span(1, 2, 5)], samples("..xxxxxxxx")) == [Recovery(1, None, "down")]


def test_last_problem_is_reported():
    assert recoveries([Span(1, 2, 5)], samples("..xxxxx..."))[0].trouble == "down"
