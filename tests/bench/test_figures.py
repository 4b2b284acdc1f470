"""Ratios, verdicts and the page. No timing."""

import pytest

from bench.figure import Definition, Measurement, Result, UnavailableError, Verdict, at_least, at_most, paired
from bench.report import BEGIN, END, line, page, rewrite

COST = Definition("cost", "ours divided by theirs", at_most(1.5))


def test_ratio_is_taken_round_by_round_and_the_median_stands_for_them():
    measurement = paired([2.0, 30.0, 4.0], [1.0, 10.0, 4.0], "")
    assert measurement.ratios == (2.0, 3.0, 1.0)
    assert measurement.median == 2.0
    assert measurement.spread == (1.0, 3.0)


def test_rounds_that_do_not_pair_up_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0], "")


@pytest.mark.parametrize(
    ("target", "ratio", "verdict"),
    [
        (at_most(1.5), 1.5, Verdict.OK),
        (at_most(1.5), 1.51, Verdict.SHORT),
        (at_least(4), 4.0, Verdict.OK),
        (at_least(4), 3.9, Verdict.SHORT),
        (None, 99.0, Verdict.SHOWN),
    ],
)
def test_verdict_is_of_the_median(target, ratio, verdict):
    result = Result(Definition("figure", "", target), Measurement((0.0, ratio, 100.0), ""))
    assert result.verdict is verdict


def test_line_has_ratio_spread_target_and_verdict():
    result = Result(COST, Measurement((1.0, 1.25, 2.0), "5 us beside 4 us"))
    assert line(result) == "cost: 1.25, 1.00 to 2.00, at most 1.5, ok (5 us beside 4 us)"


def test_missing_peer_is_skipped_with_the_reason():
    result = Result(COST, UnavailableError("no gmqtt: `make bench` installs it"))
    assert result.verdict is Verdict.SKIPPED
    assert line(result) == "cost: skipped, no gmqtt: `make bench` installs it"


def test_unexpected_output_fails_the_figure():
    result = Result(COST, AssertionError("expected 5 rows, got 4"))
    assert result.verdict is Verdict.FAILED
    assert line(result) == "cost: failed, expected 5 rows, got 4"


def test_page_keeps_what_is_written_by_hand(tmp_path):
    path = tmp_path / "performance.md"
    begin, end = BEGIN.format("history"), END.format("history")
    path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    rewrite(path, "history", page([Result(COST, Measurement((1.0,), "5 us beside 5 us"))], {"machine": "fast"}))
    text = path.read_text()
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert "| cost | 1.00 | 1.00 to 1.00 | at most 1.5 | ok | 5 us beside 5 us |" in text
    assert "- **cost**: ours divided by theirs" in text
    assert "- machine: fast" in text


def test_page_without_markers_is_left_alone(tmp_path):
    path = tmp_path / "performance.md"
    path.write_text("by hand\n")
    with pytest.raises(ValueError, match="expected <!-- measured"):
        rewrite(path, "measured", "new")
    assert path.read_text() == "by hand\n"
