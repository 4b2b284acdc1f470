"""Clocks that jump while a service runs.

libfaketime would reach further than Python's `time.time`, but where it leaves monotonic clocks alone, as it must here,
its 0.9.10 makes every `time.sleep` fail (EINVAL). The services have the time from `time.time` alone.
"""

import os
import shutil
from pathlib import Path

_MODULE = Path(__file__).parent / "clock" / "sitecustomize.py"


class Clocks:
    """A folder with the module that Python loads first, and a file for each service: how far its clock is off."""

    def __init__(self, folder: Path, services: tuple[str, ...]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(_MODULE, folder)
        for service in services:
            self.set(service, 0)

    def set(self, service: str, seconds: int) -> None:
        """Let the clock of a service be off by `seconds`; it notices within a second."""
        # In one step, so that nobody reads half of it.
        new = self.folder / f"{service}.new"
        new.write_text(f"{seconds}\n")
        # Containers read it as users of their own.
        new.chmod(0o644)
        new.replace(self.folder / service)

    def environment(self, service: str) -> dict[str, str]:
        """What a process on this machine needs to follow its file."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, "CHAOS_CLOCK": str(self.folder / service)}
