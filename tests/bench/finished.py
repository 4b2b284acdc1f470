"""Programs that run to their end, and what they cost."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_KIB_A_MIB = 1024


@dataclass(frozen=True)
class Cost:
    """Seconds from start to end, CPU seconds, and the maximum resident memory (MiB)."""

    wall: float
    cpu: float
    memory: float


def finished(command: Sequence[str], folder: Path, **environment: str) -> Cost:
    """Run a program in `folder` to its end. AssertionError with its output if it fails."""
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        # `wait4` has the memory of this process alone; that of all children would hide smaller ones.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")[-2000:]
            raise AssertionError(f"expected exit code 0 of {' '.join(command)}, got {process.returncode}: {text}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _KIB_A_MIB)
