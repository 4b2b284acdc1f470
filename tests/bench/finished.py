"""Programs that run to their end, and what they cost."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.figure import UnavailableError
from bench.processes import peak_mebibytes

_LOOK_SECONDS = 0.05


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
        memory = 0.0
        # The memory in the resource usage would be at least that of this process, which has started it.
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            with suppress(UnavailableError):  # it has just ended
                memory = max(memory, peak_mebibytes(process.pid))
            time.sleep(_LOOK_SECONDS)
        wall = time.monotonic() - start
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")[-2000:]
            raise AssertionError(f"expected exit code 0 of {' '.join(command)}, got {process.returncode}: {text}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, memory)
