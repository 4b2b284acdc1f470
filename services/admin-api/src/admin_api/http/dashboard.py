"""`GET /` and `GET /docs`: the dashboard, and the API to try out, built from `web/` into `admin_api/static/`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from admin_api.http.context import Context

STATIC = Path(__file__).parents[1] / "static"
"""Where the build puts the pages and `assets/`."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI styles its elements by attributes, and draws its icons from addresses that hold them.
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
_SECURITY = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# The name of an asset has a hash of its content in it, so the content never changes.
_FOR_GOOD = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"
_NOT_BUILT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crypto Ingress</title>
</head>
<body>
<h1>{what} is not built</h1>
<p>Build it with <code>make web</code> in the project's folder (or <code>npm ci &amp;&amp; npm run build</code> in
<code>services/admin-api/web</code>), and start the service again.</p>
<p>Everything else works: <a href="health">health</a>, <a href="symbols">symbols</a>, <a href="openapi.json">the
description of the API</a>.</p>
</body>
</html>
"""
_PAGES = {
    "": ("index.html", "The dashboard", {}),
    "docs": ("docs.html", "The page of the API", {"Content-Security-Policy": _DOCS_POLICY}),
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is served: content, headers, and the `ETag` among them."""

    content: bytes
    etag: str
    headers: Mapping[str, str]

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        headers = {**_SECURITY, **self.headers, "ETag": self.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if self.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers)


def load(folder: Path) -> dict[str, StaticFile]:
    """What is served, by path below `/`, where the dashboard is the empty one.

    It is read once, so a new build takes effect at the next start.
    """
    files = {}
    for path, (name, what, headers) in _PAGES.items():
        page = folder / name
        content = page.read_bytes() if page.is_file() else _NOT_BUILT.format(what=what).encode()
        files[path] = _file(content, ".html", _ASK_FIRST, headers)
    for asset in sorted((folder / "assets").glob("*")):
        if asset.suffix in _TYPES:
            files[f"assets/{asset.name}"] = _file(asset.read_bytes(), asset.suffix, _FOR_GOOD)
    return files


def router(context: Context, folder: Path = STATIC) -> APIRouter:
    """Routes for the pages in `folder`; they are no part of the API's description."""
    routes = APIRouter(include_in_schema=False)
    files = load(folder)

    @routes.get("/")
    async def page(request: Request) -> Response:
        """The dashboard."""
        return files[""].answer(request)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        """The API, to read and to try out."""
        return files["docs"].answer(request)

    @routes.get("/assets/{name}")
    async def asset(name: str, request: Request) -> Response:
        """What the pages are made of."""
        found = files.get(f"assets/{name}")
        if found is None:
            raise HTTPException(404, f"the dashboard has no asset {name}; reload the page to get the present ones")
        return found.answer(request)

    @routes.get("/dashboard/health")
    async def health() -> JSONResponse:
        """The report of `GET /health`, always with 200.

        A browser notes each 503 as an error on its console, and here the report is what was asked for, not the verdict.
        """
        return JSONResponse(context.report().as_json(), headers={"Cache-Control": "no-store"})

    return routes


def _file(content: bytes, suffix: str, caching: str, headers: Mapping[str, str] = MappingProxyType({})) -> StaticFile:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return StaticFile(content, etag, {"Content-Type": _TYPES[suffix], "Cache-Control": caching, **headers})
