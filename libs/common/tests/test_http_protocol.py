"""Untrusted HTTP clients cannot keep a connection busy without end."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from ingress_common import http_protocol
from ingress_common.health_server import serve_http

_endless_is_over = asyncio.Event()


async def small(request):
    return PlainTextResponse("small")


async def echo(request):
    return PlainTextResponse(str(len(await request.body())))


async def endless(request):
    async def parts():
        try:
            while True:
                yield b"x" * 10_000
                # Once the connection is gone sending takes no time any more.
                await asyncio.sleep(0)
        finally:
            _endless_is_over.set()

    return StreamingResponse(parts())


@asynccontextmanager
async def connection():
    """A connection to a server with three routes."""
    app = Starlette(routes=[Route("/", small), Route("/echo", echo, methods=["POST"]), Route("/endless", endless)])
    async with serve_http(app, "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
        try:
            async with asyncio.timeout(20):
                yield reader, writer
        finally:
            writer.transport.abort()


async def response_of(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split()[1]), head.lower(), await reader.readexactly(length)


async def test_many_requests_and_bodies_go_through_one_connection():
    async with connection() as (reader, writer):
        for _ in range(1500):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Padding: " + b"x" * 100 + b"\r\n\r\n")
            assert (await response_of(reader))[2] == b"small"
        writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100)
            await writer.drain()
        assert (await response_of(reader))[2] == b"100000"


async def test_endless_request_head_is_refused():
    async with connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for number in range(10_000):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 100))
            await asyncio.sleep(0)
            if reader._buffer:
                break
        status, head, body = await response_of(reader)
        assert status == 431
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["status"] == 431


@pytest.mark.parametrize("headers", [[b"X: " + b"x" * 40_000], [b"X-%d: 1" % number for number in range(4_000)]])
async def test_a_long_head_that_arrives_at_once_is_refused_and_a_long_one_within_the_limit_is_not(headers):
    async with connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 32_000 + b"\r\n\r\n")
        assert (await response_of(reader))[0] == 200
        writer.write(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""]))
        status, _, body = await response_of(reader)
        assert status == 431
        assert "head of at most 32768 bytes" in json.loads(body)["detail"]
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "junk", [b"\0\0\0\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"]
)
async def test_what_is_not_http_is_refused(junk):
    async with connection() as (reader, writer):
        writer.write(junk)
        status, head, body = await response_of(reader)
        assert status == 400
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["title"] == "Bad Request"
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    ],
)
async def test_unfinished_request_is_dropped(begun, monkeypatch):
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 0.1)
    async with connection() as (reader, writer):
        writer.write(begun)
        await reader.read()
        assert reader.at_eof()


async def test_stalled_reader_is_disconnected(monkeypatch):
    monkeypatch.setattr(http_protocol, "STALL_SECONDS", 0.1)
    async with connection() as (reader, writer):
        writer.transport.pause_reading()
        writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        await _endless_is_over.wait()
        writer.transport.resume_reading()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(10**9)
