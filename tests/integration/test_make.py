"""The Makefile from a fresh clone on, which whoever has a `.venv` never sees."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", ["setup", "demo", "run", "test", "bench", "readers", "check"])
def test_every_target_begins_by_setting_up_what_is_not_there(tmp_path, target):
    planned = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}", f"BENCH_VENV={tmp_path / 'bench'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    assert 0 <= planned.stdout.find("-m venv") < planned.stdout.find("pip install")
