"""The plain reference of the whole path: `python -m bench.plain_subscriber HOST PORT TOPICS FILE`.

Subscribes with QoS 1, appends a row to a SQLite file for each candle, commits twice a second and then acknowledges.
Without order, checks and reconnects it shows the bare cost of a message that becomes a row. Prints `ready`.
"""

import json
import sqlite3
import sys
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

COMMIT_SECONDS = 0.5
TABLE = "CREATE TABLE rows (symbol, timeframe, open_time, open, high, low, close, volume, vwap, trades)"

_COLUMNS = ("symbol", "timeframe", "open_time", "open", "high", "low", "close", "volume", "vwap", "trades")
_INSERT = f"INSERT INTO rows VALUES ({', '.join('?' * len(_COLUMNS))})"


def main() -> None:
    """Run until ended."""
    host, port, topics, file = sys.argv[1:]
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    connection.commit()
    taken: list[paho.MQTTMessage] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, manual_ack=True)
    client.on_message = lambda _client, _data, message: taken.append(message)
    client.on_connect = lambda *_: client.subscribe(topics, qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect(host, int(port))
    commit_at = time.monotonic() + COMMIT_SECONDS
    while True:
        client.loop(0.05)
        if time.monotonic() >= commit_at:
            commit_at = time.monotonic() + COMMIT_SECONDS
            _append(connection, taken)
            for message in taken:
                client.ack(message.mid, message.qos)
            taken.clear()


def _append(connection: sqlite3.Connection, messages: list[paho.MQTTMessage]) -> None:
    if messages:
        connection.executemany(_INSERT, [_row(json.loads(message.payload)) for message in messages])
        connection.commit()


def _row(candle: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(candle[name] for name in _COLUMNS)


if __name__ == "__main__":
    main()
