"""Runs the command line and the services as processes, each in its own folder and environment."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from crypto_ingress.settings import RunSettings

COMMAND = (sys.executable, "-m", "crypto_ingress")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with `settings` and no other setting of ours."""
    ours = {name.upper() for name in RunSettings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return kept | {"COLUMNS": "80", "NO_COLOR": "1"} | settings


def crypto_ingress(
    *arguments: str | Path, folder: Path, timeout: float = 120, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return program("crypto_ingress", *arguments, folder=folder, timeout=timeout, **settings)


def program(
    module: str, *arguments: str | Path, folder: Path, timeout: float = 60, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def broker_of(parent: int) -> int | None:
    """The id of the embedded broker's process, a child of process `parent`; None if none runs."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        pid, ppid, state, arguments = line.split(None, 3)
        if int(ppid) == parent and "iotcore" in arguments and not state.startswith("Z"):
            return int(pid)
    return None


def kill_broker_of(parent: int) -> None:
    """Kill (SIGKILL) the embedded broker of process `parent`, if one runs."""
    pid = broker_of(parent)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Running:
    """A Python program that runs inside the context; its output goes to `<name>.log` in `folder`."""

    def __init__(self, name: str, *arguments: str | Path, folder: Path, **settings: str) -> None:
        self.log = folder / f"{name}.log"
        self._arguments = [sys.executable, "-m", *map(str, arguments)]
        self._folder = folder
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                cwd=self._folder,
                env=environment(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()

    def freeze(self) -> None:
        """Suspend it (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it (SIGCONT), if it has not ended."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self.process.kill()
        await self.process.wait()

    async def ended(self, seconds: float) -> int:
        """Wait for its end and return the exit code; AssertionError with its output if it does not end."""
        try:
            return await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            raise AssertionError(
                f"expected the end within {seconds} s, it still runs and printed: {self.output()}"
            ) from None

    def output(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-3000:]
