"""The dashboard's files over HTTP. What they do in a browser is in tests/browser."""

import httpx
import pytest
from fastapi import FastAPI

from admin_api.admin.dashboard import router
from admin_api.http.middleware import SecurityHeaders


@pytest.fixture
def built(tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<title>the page</title>")
    (tmp_path / "docs.html").write_text("<title>the API</title>")
    (tmp_path / "assets" / "main-ABC.js").write_text("export {}")
    (tmp_path / "assets" / "style-ABC.css").write_text("a{}")
    (tmp_path / "assets" / "icon-ABC.svg").write_text("<svg/>")
    (tmp_path / "assets" / "main-ABC.js.map").write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


def serving(folder):
    app = FastAPI(docs_url=None)
    app.include_router(router(folder))
    app.add_middleware(SecurityHeaders, shared=False)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin")


async def test_page_is_revalidated_and_assets_are_cached_forever(built):
    async with serving(built) as http:
        page = await http.get("/")
        assert (page.status_code, page.text) == (200, "<title>the page</title>")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        for name, kind in (
            ("main-ABC.js", "text/javascript"),
            ("style-ABC.css", "text/css"),
            ("icon-ABC.svg", "image/"),
        ):
            asset = await http.get(f"/assets/{name}")
            assert asset.status_code == 200
            assert asset.headers["content-type"].startswith(kind)
            assert "immutable" in asset.headers["cache-control"]


async def test_unchanged_file_gets_304(built):
    async with serving(built) as http:
        etag = (await http.get("/")).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = await http.get("/", headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert (await http.get("/", headers={"If-None-Match": '"other"'})).status_code == 200
        (built / "index.html").write_text("<title>another page</title>")
        assert (await http.get("/", headers={"If-None-Match": etag})).status_code == 200


async def test_page_may_load_nothing_from_elsewhere(built):
    async with serving(built) as http:
        for path in ("/", "/assets/main-ABC.js"):
            headers = (await http.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


async def test_api_page_may_use_inline_styles_only(built):
    async with serving(built) as http:
        page = await http.get("/docs")
        assert (page.status_code, page.text) == (200, "<title>the API</title>")
        ours = dict(part.split(" ", 1) for part in (await http.get("/")).headers["content-security-policy"].split("; "))
        its = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert its == {**ours, "style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"}


async def test_nothing_but_the_assets_is_served(built):
    async with serving(built) as http:
        for path in (
            "/assets/none.js",
            "/assets/main-ABC.js.map",
            "/assets/..%2Fsecret.txt",
            "/secret.txt",
            "/index.html",
        ):
            assert (await http.get(path)).status_code == 404, path


async def test_page_explains_the_build_if_it_is_not_built(tmp_path):
    async with serving(tmp_path) as http:
        for path in ("/", "/docs"):
            page = await http.get(path)
            assert page.status_code == 200
            assert "make web" in page.text
            assert "http" not in page.text


async def test_dashboard_is_no_part_of_the_api_and_its_report_is_that_of_health_with_200(world):
    async with world.running() as http:
        described = (await http.get("/openapi.json")).json()["paths"]
        assert not [path for path in described if path == "/" or path.startswith(("/assets", "/dashboard"))]
        report, health = await http.get("/dashboard/health"), await http.get("/health")
        assert (report.status_code, health.status_code) == (200, 503)
        assert report.json() == health.json()
