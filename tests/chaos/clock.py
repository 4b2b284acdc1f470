"""Clocks that jump while a service runs: libfaketime, which Debian has as `libfaketime`."""

import shutil
from pathlib import Path

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
LIBRARY = "libfaketime.so"


def faketime_library() -> Path | None:
    """Where the library is on this machine; None if it is not there."""
    for pattern in _PLACES:
        for path in Path("/").glob(pattern.removeprefix("/")):
            return path
    return None


class Clocks:
    """A folder with the library and, for each service, a file that says how far its clock is off."""

    def __init__(self, folder: Path, library: Path, services: tuple[str, ...]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, folder / LIBRARY)
        for service in services:
            self.set(service, 0)
        # Containers read it as users of their own.
        folder.chmod(0o755)

    def set(self, service: str, seconds: int) -> None:
        """Let the clock of a service be off by `seconds`; it notices within a second."""
        (self.folder / service).write_text(f"{seconds:+d}\n")

    def environment(self, service: str) -> dict[str, str]:
        """What a process needs to follow its file. Only the wall clock jumps: a monotonic one never does."""
        return {
            "LD_PRELOAD": str(self.folder / LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / service),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }
