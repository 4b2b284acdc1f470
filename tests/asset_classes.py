"""Kraken's REST before the simulator's, with asset classes as Kraken documents them (`docs/kraken-protocol.md`)."""

from typing import Self

import httpx
from aiohttp import web

CLASS = "tokenized_asset"
_UNKNOWN = {"error": ["EQuery:Unknown asset pair"]}


class AssetClassProxy:
    """Forwards REST to `rest_url`. Tokenised pairs are listed and answered for only with their class, others only
    without it. `answered`: the tokenised pairs that it answered for, by method.
    """

    def __init__(self, rest_url: str, ws_url: str, tokenised: frozenset[str]) -> None:
        self.ws_url = ws_url
        self.rest_url = ""
        self.answered: set[tuple[str, str]] = set()
        self._upstream = rest_url
        self._tokenised = {name for symbol in tokenised for name in (symbol, symbol.replace("/", ""))}
        self._runner: web.AppRunner | None = None
        self._client = httpx.AsyncClient(timeout=30.0)

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.rest_url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.aclose()

    async def _serve(self, request: web.Request) -> web.Response:
        method = request.path.rpartition("/")[2]
        pair = request.query.get("pair", "")
        if method in ("OHLC", "Trades"):
            if (pair in self._tokenised) is not (request.query.get("asset_class") == CLASS):
                return web.json_response(_UNKNOWN)
            if pair in self._tokenised:
                self.answered.add((method, pair))
        answer = await self._client.get(f"{self._upstream}{request.path_qs}")
        if method == "AssetPairs" and "result" in (body := answer.json()) and not pair:
            wanted = request.query.get("aclass_base", "currency")
            rows = body["result"].items()
            body["result"] = {key: row for key, row in rows if row.get("aclass_base", "currency") == wanted}
            return web.json_response(body)
        return web.Response(status=answer.status_code, body=answer.content, content_type="application/json")
