"""A short run of each form, as CI makes it; the long ones are for the command line (README)."""

import json
from pathlib import Path

import pytest

from chaos.__main__ import main
from demo_stack import why_no_stack
from servers import missing

# Building images, and minutes that have to end.
pytestmark = pytest.mark.timeout(600)


def chaos(folder: Path, *arguments: str) -> dict:
    """A run with its report; a failing test shows its output."""
    code = main([*arguments, "--folder", str(folder), "--settle", "120"])
    report = json.loads((folder / "report.json").read_text())
    assert (code == 0) == report["ok"]
    return report


def faultless(report: dict) -> dict:
    return {name: report[name] for name in ("missing", "wrong", "duplicate", "invented", "problems")}


NOTHING = {"missing": 0, "wrong": 0, "duplicate": 0, "invented": 0, "problems": []}


def test_the_compose_stack_comes_through_chaos_with_every_candle(tmp_path: Path) -> None:
    if reason := why_no_stack():
        missing("Docker with Compose and the base images", reason)
    only = "kill,freeze,stop,cut,scale,double,eof,silent,blind,half_open,outage,revised_snapshot"
    report = chaos(tmp_path, "--symbols=12", "--seed=5", "--faults=14", "--minutes=3", f"--only={only}")
    assert faultless(report) == NOTHING
    assert report["ok"]
    assert report["candles"] > 0


def test_one_process_comes_through_chaos_with_every_candle(tmp_path: Path) -> None:
    report = chaos(tmp_path, "--form=one-process", "--symbols=12", "--seed=5", "--faults=10", "--minutes=2")
    assert faultless(report) == NOTHING
    assert report["ok"]
    assert report["candles"] > 0
