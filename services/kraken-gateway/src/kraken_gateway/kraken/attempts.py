"""The connection attempts of the last ten minutes, remembered beyond the life of the process: Kraken counts them on."""

import asyncio
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ingress_common.bus import Bus, LastWill, Message
from ingress_common.logs import get_logger
from ingress_common.payloads import PayloadError, decode_attempts, encode_attempts
from ingress_common.topics import Topics
from kraken_gateway.outlet import SERVICE

MOST = 300
"""Attempts that are remembered at most: twice what Kraken allows in ten minutes."""

ATTEMPTS = "attempts"
"""What `open_bus` is told for the connection that remembers attempts."""

_LONGEST = 64 * 1024
_RETAINED_SECONDS = 1.0
_SAVE_SECONDS = 2.0

log = get_logger(__name__)


class AttemptsMemory(Protocol):
    """Where attempts are remembered, as unix seconds by this machine's clock. Opened as an async context manager."""

    async def __aenter__(self) -> Self:
        """Open it."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release everything."""
        ...

    async def load(self) -> Sequence[float]:
        """What was saved last; empty if there is nothing, or nothing that can be read."""
        ...

    async def save(self, attempts: Sequence[float]) -> None:
        """Remember `attempts` in place of what was remembered, and return when that is done or cannot be done now."""
        ...


class BusAttempts:
    """Attempts in a retained message of the instance, over a bus connection of its own."""

    def __init__(self, open_bus: Callable[[str, LastWill | None], Bus], topics: Topics, instance: str) -> None:
        self._bus = open_bus(ATTEMPTS, None)
        self._topic = topics.attempts(SERVICE, instance)

    async def __aenter__(self) -> Self:
        """Connect; BusError if the broker cannot be used."""
        await self._bus.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._bus.__aexit__(kind, error, trace)

    async def load(self) -> Sequence[float]:
        """What the broker has retained; empty if nothing comes within a second."""
        await self._bus.subscribe(self._topic)
        try:
            async with asyncio.timeout(_RETAINED_SECONDS):
                return await self._retained()
        except TimeoutError:
            return ()
        finally:
            await self._bus.unsubscribe(self._topic)

    async def _retained(self) -> Sequence[float]:
        async for event in self._bus.events():
            if isinstance(event, Message):
                event.ack()
                return decode(event.payload, self._topic)
        return ()

    async def save(self, attempts: Sequence[float]) -> None:
        """Publish. Where the broker is away for longer than 2 s, it is told when it is back."""
        try:
            async with asyncio.timeout(_SAVE_SECONDS):
                await (await self._bus.publish(self._topic, encode(attempts), qos=1, retain=True))
        except TimeoutError:
            log.warning("attempts.unsaved", detail=f"the broker has not confirmed within {_SAVE_SECONDS:.0f} s")


class FileAttempts:
    """Attempts in a file: for a broker that forgets. Kraken counts by address, so all runs of a machine share it."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._path = (folder or Path(tempfile.gettempdir())) / f"crypto-ingress-attempts-{name}.json"
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    async def load(self) -> Sequence[float]:
        """What the file tells."""
        return await asyncio.to_thread(self._read)

    async def save(self, attempts: Sequence[float]) -> None:
        """Replace the file as a whole."""
        async with self._one_at_a_time:
            try:
                await asyncio.to_thread(self._write, encode(attempts))
            except OSError as error:
                log.warning("attempts.unsaved", detail=str(error))

    def _read(self) -> Sequence[float]:
        try:
            with self._path.open("rb") as file:
                payload = file.read(_LONGEST)
        except FileNotFoundError:
            return ()
        except OSError as error:
            log.warning("attempts.unreadable", origin=str(self._path), reason=str(error))
            return ()
        return decode(payload, str(self._path))

    def _write(self, payload: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.stem)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
            Path(name).replace(self._path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def encode(attempts: Iterable[float]) -> bytes:
    """The newest of `attempts` (unix seconds) as they are written down."""
    return encode_attempts(list(attempts)[-MOST:])


def decode(payload: bytes, origin: str) -> tuple[float, ...]:
    """The attempts (unix seconds) that `payload` from `origin` tells; none, and a warning, if it cannot be read."""
    if not payload:
        return ()
    try:
        attempts = decode_attempts(payload)
    except PayloadError as error:
        log.warning("attempts.unreadable", origin=origin, reason=str(error))
        return ()
    return tuple(sorted(at for at in attempts if math.isfinite(at))[-MOST:])
