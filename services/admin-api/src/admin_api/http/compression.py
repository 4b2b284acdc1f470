"""Answers as gzip where the client takes that, and those that it may keep and request only if they changed."""

from collections.abc import Mapping
from hashlib import blake2b

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_GZIP_FROM = 1_000
"""Bytes from which compressing pays."""

_GZIP_LEVEL = 1
"""400 kB of candles: 3 ms and 7 % at level 1, 13 ms and 4 % at level 6."""


class Compression(GZipMiddleware):
    """Starlette's, for clients that take gzip; Starlette compresses also for those that refuse it with `q=0`."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=_GZIP_FROM, compresslevel=_GZIP_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and compress what comes back."""
        takes = scope["type"] == "http" and _takes_gzip(Headers(scope=scope))
        await (super().__call__ if takes else self.app)(scope, receive, send)


def conditional(request: Request, body: bytes, media_type: str, headers: Mapping[str, str]) -> Response:
    """200 with `body`, or 304 if the client has it; a strong ETag for each form, since `Compression` is to come."""
    form = "-gzip" if len(body) >= _GZIP_FROM and _takes_gzip(request.headers) else ""
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}{form}"'
    headers = {**headers, "ETag": tag, "Vary": "Accept, Accept-Encoding"}
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _takes_gzip(headers: Headers) -> bool:
    """Whether gzip is among the encodings of Accept-Encoding, and not with weight 0."""
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0").rstrip(".") != "q="
    return False
