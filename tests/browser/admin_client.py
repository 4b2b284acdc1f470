"""Requests to admin-api and the simulator; numbers keep their digits."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx


class Api:
    """admin-api at `base`, its token, store's file and broker, and the simulator's control; numbers stay text."""

    def __init__(
        self, base: str, token: str = "", store: Path | None = None, control: str = "", broker: str = ""
    ) -> None:
        self.base = base
        self.token = token
        self.store = store
        self.control = control
        self.broker = broker
        self._http = httpx.Client(base_url=base, timeout=10)

    def candles(self, symbol: str, timeframe: str, **query: Any) -> list[dict[str, Any]]:
        response = self._http.get(
            f"/candles/{symbol.replace('/', '-')}", params={"timeframe": timeframe, "limit": 5000, **query}
        )
        response.raise_for_status()
        return json.loads(response.text, parse_float=str, parse_int=str)["candles"]

    def closed(self, symbol: str, timeframe: str) -> list[dict[str, Any]]:
        """The closed ones; none while the symbol is not known yet."""
        try:
            return [candle for candle in self.candles(symbol, timeframe) if candle["closed"]]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return []

    def candle(self, symbol: str, timeframe: str, open_time: str) -> dict[str, Any]:
        """The one that opens at `open_time`."""
        found = [c for c in self.candles(symbol, timeframe, **{"from": open_time}) if c["open_time"] == open_time]
        assert found, f"expected a candle {symbol} {timeframe} {open_time}, there is none"
        return found[0]

    def gaps(self) -> list[dict[str, Any]]:
        return self._http.get("/gaps").raise_for_status().json()["gaps"]

    def dead_letters(self) -> list[dict[str, Any]]:
        return self._http.get("/dead-letters").raise_for_status().json()["dead_letters"]

    def repair(self, **wanted: str) -> None:
        response = self._http.post("/repair", json=wanted, headers={"Authorization": f"Bearer {self.token}"})
        assert response.status_code == 202, response.text

    def fault(self, kind: str, seconds: float, **more: str) -> None:
        """Start a fault of the simulator."""
        response = httpx.post(f"{self.control}/faults", json={"kind": kind, "seconds": seconds, **more})
        assert response.status_code == 201, response.text

    def truth(self, symbol: str) -> dict[str, dict[str, Any]]:
        """The minutes that traded by their opens, straight from the simulator's trades."""
        response = httpx.get(f"{self.control}/truth/{symbol.replace('/', '-')}", params={"timeframe": "1m"})
        candles = json.loads(response.raise_for_status().text, parse_float=str, parse_int=str)["candles"]
        return {candle["open_time"]: candle for candle in candles}

    def faults(self) -> set[str]:
        """The kinds of those that run."""
        return {fault["kind"] for fault in httpx.get(f"{self.control}/faults").raise_for_status().json()["active"]}

    def health(self) -> int | None:
        """The status of /health; None before it listens."""
        try:
            return self._http.get("/health").status_code
        except httpx.TransportError:
            return None

    def until_health(self, status: int, seconds: float, said: Callable[[], str]) -> None:
        """Wait for it; `said` is what the programs under test have told."""
        until(lambda: self.health() == status, seconds, lambda: f"/health {status}, got {self.health()}; {said()}")


def until(condition: Callable[[], bool], seconds: float, expected: Callable[[], str]) -> None:
    """Wait for `condition`; `expected` says what did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"expected within {seconds} s: {expected()}"
        time.sleep(0.2)
