"""Clocks that jump while a service runs.

libfaketime affects more than Python's `time.time`. But if it leaves monotonic clocks unchanged, as needed here, its
0.9.10 makes every `time.sleep` fail (EINVAL). The services read the time only from `time.time`.
"""

import os
import shutil
from pathlib import Path

_MODULE = Path(__file__).parent / "clock" / "sitecustomize.py"


class Clocks:
    """A folder with a module that Python loads first, and a file per service with its clock's offset."""

    def __init__(self, folder: Path, services: tuple[str, ...]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(_MODULE, folder)
        for service in services:
            self.set(service, 0)

    def set(self, service: str, seconds: int) -> None:
        """Set the clock offset of a service in `seconds`, effective within a second."""
        # Atomically, so that nobody reads a partial file.
        new = self.folder / f"{service}.new"
        new.write_text(f"{seconds}\n")
        # Containers read it as users of their own.
        new.chmod(0o644)
        new.replace(self.folder / service)

    def environment(self, service: str) -> dict[str, str]:
        """The environment with which a process follows its file."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, "CHAOS_CLOCK": str(self.folder / service)}
