"""Processes of a run, and their cost from Linux's /proc."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

import servers
from bench.figure import UnavailableError

_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 20.0
_KIB_A_MIB = 1024
# As deployed; the tests' broker saves its state after every change.
_MOSQUITTO = """\
allow_anonymous true
autosave_on_changes false
autosave_interval 10
max_inflight_messages 10000
set_tcp_nodelay true
"""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system. UnavailableError if /proc does not have it."""
    # The name, in parentheses, may contain blanks.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mebibytes(pid: int) -> float:
    """The maximum resident memory of a process so far. UnavailableError like `cpu_seconds`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read(pid, "status"), re.MULTILINE)
    if found is None:
        raise UnavailableError(f"expected VmHWM in /proc/{pid}/status, which Linux has")
    return int(found[1]) / _KIB_A_MIB


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise UnavailableError(f"CPU and memory of processes are read from /proc, as on Linux: {error}") from None


class Child:
    """A process of a run, as a context manager; it communicates in lines.

    It runs in `folder`, so that it finds no `.env`, or in the current folder.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None, **environment: str) -> None:
        self._command = command
        self._folder = folder
        self._environment = {**os.environ, **environment}

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            text=True,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def stop(self) -> None:
        """End it and wait for its end."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def write_line(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def read_line(self) -> str:
        """The next line that it prints; AssertionError if it ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise AssertionError(
                f"expected a line of {' '.join(self._command)}, it ended: {self._errors.read()[-2000:]}"
            )
        return line.strip()

    def expect(self, line: str) -> None:
        """Wait for `line`; AssertionError if another comes."""
        if (received := self.read_line()) != line:
            raise AssertionError(f"expected {line!r} of {' '.join(self._command)}, got {received!r}")

    def number(self) -> float:
        """The next line, a number."""
        return float(self.read_line())


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs a module, of this package or of ours, in this environment."""
    return [sys.executable, "-m", name, *map(str, arguments)]


@contextmanager
def broker() -> Iterator[servers.MqttServer]:
    """A running Mosquitto of our own. UnavailableError if there is none."""
    with tempfile.TemporaryDirectory() as folder, _or_unavailable():
        server = servers.own_mosquitto(Path(folder), _MOSQUITTO)
        server.start()
        try:
            yield server
        finally:
            _end(server)


@contextmanager
def influxdb() -> Iterator[servers.InfluxServer]:
    """A running InfluxDB of our own, set up. UnavailableError if there is none."""
    with tempfile.TemporaryDirectory() as folder, _or_unavailable():
        server = servers.own_influx(Path(folder))
        server.start()
        try:
            yield server
        finally:
            _end(server)


@contextmanager
def _or_unavailable() -> Iterator[None]:
    # What skips a test skips a figure.
    try:
        yield
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        raise UnavailableError(str(reason)) from None


def _end(server: servers.MqttServer | servers.InfluxServer) -> None:
    if isinstance(server, servers.MosquittoContainer | servers.InfluxContainer):
        server.remove()
    else:
        server.stop()
