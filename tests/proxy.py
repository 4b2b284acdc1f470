"""A TCP proxy that can cut its connections."""

import asyncio
import ssl
from contextlib import suppress
from typing import Self


class CuttableProxy:
    """Forwards bytes between clients and `host`:`port` until it is cut or stopped. With `tls` clients speak TLS."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepting = True
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def cut(self) -> None:
        """End every connection now; bytes in flight are lost."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            pipe = asyncio.create_task(self._pipe(source, sink))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._before(data)
                sink.write(data)
                await sink.drain()
            sink.close()
        self._writers.discard(sink)

    async def _before(self, data: bytes) -> None:
        """Called with the bytes to forward."""


class HoldingProxy(CuttableProxy):
    """Delays bytes that contain `marker` while delaying is on."""

    def __init__(self, host: str, port: int, marker: bytes) -> None:
        super().__init__(host, port)
        self._marker = marker
        self._passing = asyncio.Event()
        self._passing.set()
        self.holds = asyncio.Event()

    def hold(self) -> None:
        """Start delaying; `holds` is set when the first bytes have arrived."""
        self.holds.clear()
        self._passing.clear()

    def release(self) -> None:
        """Forward the delayed bytes."""
        self._passing.set()

    async def _before(self, data: bytes) -> None:
        if self._marker in data and not self._passing.is_set():
            self.holds.set()
            await self._passing.wait()


class StallingProxy(CuttableProxy):
    """Forwards everything up to the occurrence of `marker` with number `last`, and then nothing that clients send."""

    def __init__(self, host: str, port: int, marker: bytes, last: int) -> None:
        super().__init__(host, port)
        self._marker = marker
        self._left = last
        self.stalled = asyncio.Event()

    async def _before(self, data: bytes) -> None:
        self._left -= data.count(self._marker)
        if self._left <= 0:
            self.stalled.set()
            await asyncio.Event().wait()
