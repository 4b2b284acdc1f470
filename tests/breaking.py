"""Breaks a running system in one way after the other, and judges what /health shows of it: red within 15 s, with the
check that the breakage concerns; green again within 30 s after its end.
"""

import asyncio
import errno
import inspect
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import httpx
import pytest

RED_SECONDS = 15.0
GREEN_SECONDS = 30.0
OUTAGE_SECONDS = 20
"""How long a fault of the simulator lasts, which ends by itself."""
_STEADY_SECONDS = 3.0
_RECOVERY_SECONDS = 90.0


class Watched(Protocol):
    """What has a /health."""

    url: str
    http: httpx.AsyncClient

    def problem(self) -> str | None:
        """Why nothing can come of it any more: it has ended; None while it runs."""
        ...


WorldT = TypeVar("WorldT")


def nothing(_world: Any) -> None:
    """It mends itself."""


@dataclass(frozen=True)
class Way(Generic[WorldT]):
    """How something is broken and mended, and which checks may show it: one of `shows` must. `lasts`: seconds after
    which it ends by itself.
    """

    breaks: Callable[[WorldT], Any]
    mends: Callable[[WorldT], Any]
    shows: tuple[str, ...]
    lasts: float = 0.0


async def _done(step: Any) -> None:
    if inspect.isawaitable(step):
        await step


async def failing(system: Watched) -> Mapping[str, str] | None:
    """The checks that fail with their details; None if /health is 200."""
    try:
        if (await system.http.get(f"{system.url}/health")).status_code == 200:
            return None
        answer = await system.http.get(f"{system.url}/dashboard/health")
    except httpx.TransportError as error:
        return {"http": repr(error)}
    return {check["name"]: check["detail"] for check in answer.json()["checks"] if not check["ok"]}


async def _until(
    system: Watched, condition: Callable[[Mapping[str, str] | None], bool], seconds: float, expected: str
) -> tuple[float, Mapping[str, str] | None]:
    began = time.monotonic()
    while True:
        found = await failing(system)
        if condition(found):
            return time.monotonic() - began, found
        assert system.problem() is None, system.problem()
        assert time.monotonic() - began < seconds, f"expected {expected} within {seconds:.0f} s, found {found}"
        await asyncio.sleep(0.2)


async def steadily_green(system: Watched, seconds: float = _RECOVERY_SECONDS) -> None:
    """Wait until /health has been green without interruption: what is red then is so for the next reason."""
    since: float | None = None

    def steady(found: Mapping[str, str] | None) -> bool:
        nonlocal since
        since = None if found is not None else since or time.monotonic()
        return since is not None and time.monotonic() - since > _STEADY_SECONDS

    await _until(system, steady, seconds, "a green /health")


async def judge(system: Watched, world: WorldT, ways: Mapping[str, Way[WorldT]]) -> dict[str, str]:
    """Try each way; gives what was seen of it, which begins with FAILED where /health did not tell the truth."""
    seen: dict[str, str] = {}
    for name, way in ways.items():
        try:
            await steadily_green(system)
            broken = time.monotonic()
            await _done(way.breaks(world))
            red, found = await _until(
                system, lambda f, way=way: bool(f and f.keys() & set(way.shows)), RED_SECONDS, f"red by {way.shows}"
            )
            await _done(way.mends(world))
            rest = max(0.0, broken + way.lasts - time.monotonic())
            green, _ = await _until(system, lambda f: f is None, rest + GREEN_SECONDS, "green")
        except AssertionError as error:
            seen[name] = f"FAILED: {str(error)[:1000]}"
            await _done(way.mends(world))
        else:
            after = max(0.0, green - rest)
            seen[name] = f"red after {red:.1f} s ({', '.join(found or ())}), green {after:.1f} s after its end"
        print(f"{name}: {seen[name]}", flush=True)
    return seen


def failures(seen: Mapping[str, str]) -> dict[str, str]:
    """The ways of which /health did not tell the truth."""
    return {name: text for name, text in seen.items() if text.startswith("FAILED")}


@dataclass(frozen=True)
class SmallDisk:
    """A file system of a few megabytes."""

    path: Path

    def fill(self) -> None:
        """Take all the space that is left."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            for size in (65_536, 512, 1):
                try:
                    while True:
                        filler.write(b"x" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give it back."""
        (self.path / "filler").unlink(missing_ok=True)

    def enlarge(self, megabytes: int) -> None:
        """Give it a size of `megabytes`."""
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """A file system in memory at `path`; None, and a plain folder there, for who may not mount one."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(path)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield SmallDisk(path)
    finally:
        # What still has a file open there must not keep it from going.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def mounted(disk: SmallDisk | None) -> SmallDisk:
    """The disk; skips without the right to mount one."""
    if disk is None:
        pytest.skip("a small file system needs the right to mount: run as root, outside of a container")
    return disk


@asynccontextmanager
async def in_its_place(port: int, answer: bytes | None) -> AsyncIterator[None]:
    """Something else on `port`: it gives `answer` to every request; None: it accepts connections and says nothing."""
    open_connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            if answer is None:
                while await reader.read(65_536):
                    pass
            else:
                await reader.read(65_536)
                writer.write(answer)
        except ConnectionError:
            pass
        finally:
            open_connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in list(open_connections):
            writer.transport.abort()
