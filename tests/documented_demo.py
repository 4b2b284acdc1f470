"""A running demo for the tests of the documentation: on Mosquitto, optionally on InfluxDB, on its own ports."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from command import environment
from servers import InfluxPlace, free_port

TOKEN = "change-me-admin-token"
_START_SECONDS = 120.0
_END_SECONDS = 40.0


class DocumentedDemo:
    """`crypto-ingress demo` between `start` and `stop`."""

    def __init__(self, folder: Path, mqtt_url: str, influx: InfluxPlace | None) -> None:
        self.folder = folder
        self.mqtt_port = int(mqtt_url.rpartition(":")[2])
        self.http_port = free_port()
        self.control_port = free_port()
        self.influx = influx
        if influx:
            store = {"STORE_URL": influx.url, "INFLUX_TOKEN": influx.token, "INFLUX_ORG": "documented"}
        else:
            store = {"STORE_URL": f"sqlite:///{folder / 'demo.db'}"}
        self.settings: Mapping[str, str] = {
            "MQTT_URL": mqtt_url,
            "HTTP_PORT": str(self.http_port),
            "SIM_PORT": "0",
            "SIM_CONTROL_PORT": str(self.control_port),
            "ADMIN_TOKEN": TOKEN,
            "INSTANCE_ID": "documented",
            **store,
        }
        self._log = folder / "demo.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crypto_ingress", "demo"],
                cwd=self.folder,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def until_it_serves_candles(self) -> None:
        """Wait until everything is healthy and every timeframe has candles."""
        paths = ["/health", *(f"/candles/BTC-USD?timeframe={t}&limit=2" for t in ("1m", "5m", "1h", "1d"))]
        deadline = time.monotonic() + _START_SECONDS
        waiting = list(paths)
        while waiting:
            assert time.monotonic() < deadline, f"expected an answer of {waiting[0]}; the demo printed: {self.output()}"
            assert self._process is not None
            assert self._process.poll() is None, self.output()
            if self._has(waiting[0]):
                waiting.pop(0)
            else:
                time.sleep(0.2)

    def _has(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
                return bool(json.load(answer).get("candles", True))
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> int:
        """End it as Ctrl-C does; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(_END_SECONDS)

    def output(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
