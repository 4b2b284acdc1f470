"""Answers that a client may keep, ask for only if they changed, and take compressed."""

import asyncio
import gzip
from collections.abc import Mapping
from hashlib import blake2b

from fastapi import Request
from starlette.responses import Response

_GZIP_FROM = 1_000
"""Bytes from which compressing pays."""

_GZIP_LEVEL = 1
"""400 kB of candles: 3 ms and 7 % at level 1, 13 ms and 4 % at level 6."""


async def keepable(request: Request, body: bytes, media_type: str, headers: Mapping[str, str]) -> Response:
    """200 with `body`, compressed where the client takes that, or 304 if it has it; a strong ETag for each form."""
    compressed = len(body) >= _GZIP_FROM and _takes_gzip(request.headers.get("accept-encoding", ""))
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}{"-gzip" if compressed else ""}"'
    headers = {**headers, "ETag": tag, "Vary": "Accept, Accept-Encoding"}
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    if compressed:
        body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type=media_type)


def _takes_gzip(accept: str) -> bool:
    """Whether gzip is among the encodings of an Accept-Encoding, and not with weight 0."""
    for part in accept.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "").rstrip("0").rstrip(".") != "q="
    return False


def _matches(given: str, tag: str) -> bool:
    """Whether `tag` is among those of an If-None-Match, compared weakly as RFC 9110 wants it."""
    tags = [part.strip().removeprefix("W/") for part in given.split(",")]
    return tag in tags or tags == ["*"]
