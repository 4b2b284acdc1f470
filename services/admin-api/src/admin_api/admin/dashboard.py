"""`GET /` and `GET /docs`: the dashboard and the API's page, built from `web/` into `admin_api/static/`."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parents[1] / "static"
"""The output folder of the build: pages and `assets/`."""

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI uses style attributes, and icons in `data:` URLs.
_DOCS_POLICY = f"{_POLICY}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
# An asset's name contains a hash of its content, so the content never changes.
_IMMUTABLE = "public, max-age=31536000, immutable"
_ASSETS = frozenset({".css", ".js", ".svg", ".txt"})
_NOT_BUILT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crypto Ingress</title>
</head>
<body>
<h1>This page is not built</h1>
<p>Build it with <code>make web</code> in the project's folder (or <code>npm ci &amp;&amp; npm run build</code> in
<code>services/admin-api/web</code>), and start the service again.</p>
<p>Everything else works: <a href="health">health</a>, <a href="symbols">symbols</a>, <a href="openapi.json">the
description of the API</a>.</p>
</body>
</html>
"""


def router(folder: Path = STATIC) -> APIRouter:
    """Routes of the pages in `folder`; the API's description does not list them."""
    routes = APIRouter(include_in_schema=False)
    pages = StaticFiles(directory=folder, check_dir=False)
    assets = StaticFiles(directory=folder / "assets", check_dir=False)

    @routes.get("/")
    async def page(request: Request) -> Response:
        """The dashboard."""
        return await _page(pages, "index.html", request, _POLICY)

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        """The API's description, with forms to try it."""
        return await _page(pages, "docs.html", request, _DOCS_POLICY)

    @routes.get("/assets/{name}")
    async def asset(name: str, request: Request) -> Response:
        """A script, style sheet or other file of the pages."""
        try:
            if Path(name).suffix not in _ASSETS:
                raise HTTPException(404)
            response = await assets.get_response(name, request.scope)
        except HTTPException:
            raise HTTPException(404, f"the dashboard has no asset {name}; reload the page") from None
        return _with_headers(response, _POLICY, _IMMUTABLE)

    return routes


async def _page(pages: StaticFiles, name: str, request: Request, policy: str) -> Response:
    try:
        response = await pages.get_response(name, request.scope)
    except HTTPException:
        response = HTMLResponse(_NOT_BUILT)
    return _with_headers(response, policy, "no-cache")


def _with_headers(response: Response, policy: str, caching: str) -> Response:
    response.headers.update(
        {
            "Content-Security-Policy": policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": caching,
        }
    )
    return response
