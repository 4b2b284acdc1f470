"""/health tells the truth about the broker, Kraken and a SQLite file: a demo on a real Mosquitto."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from breaking import OUTAGE_SECONDS, SmallDisk, Way, failures, in_its_place, judge, nothing, small_disk, steadily_green
from running_demo import Demo, running_demo
from servers import FOLDER, MqttServer

pytestmark = pytest.mark.timeout(900)

ALL, NONE = "topic readwrite #\n", "topic read nothing\n"
NO_UPDATES = "topic write ingress/raw/#\n" + "".join(
    f"topic readwrite ingress/{kind}/#\n"
    for kind in ("history", "feed", "candles", "ending", "request", "status", "dead-letter")
)
"""Who subscribes to candle updates is let, and gets none."""


@dataclass
class World:
    """The demo, its broker with the folder of its configuration, its SQLite file and the disk that holds it."""

    demo: Demo
    broker: MqttServer
    store: Path
    disk: SmallDisk | None
    impostor: AsyncExitStack = field(default_factory=AsyncExitStack)
    lock: sqlite3.Connection | None = None

    async def silence_broker(self) -> None:
        """Something on the broker's port accepts connections and sends nothing."""
        self.broker.stop()
        await self.impostor.enter_async_context(in_its_place(self.broker.port, None))

    async def restore_broker(self) -> None:
        await self.impostor.aclose()
        await asyncio.to_thread(self.broker.start)

    def change_broker(self, file: str, old: str, new: str) -> None:
        """Start it with another configuration."""
        path = self.broker.folder / file
        self.broker.stop()
        path.write_text(path.read_text().replace(old, new))
        self.broker.start()

    def change_rights(self, rights: str) -> None:
        """Change them while everybody stays connected."""
        (self.broker.folder / "acl").write_text(rights)
        self.broker.reload()

    def hide_store(self) -> None:
        self.store.rename(self.store.with_name("moved.db"))

    def show_store(self) -> None:
        self.store.with_name("moved.db").rename(self.store)

    def lock_store(self) -> None:
        """Another program writes and does not finish."""
        self.lock = sqlite3.connect(self.store, isolation_level=None)
        self.lock.execute("BEGIN IMMEDIATE")

    def unlock_store(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def kraken(kind: str, *shows: str) -> Way[World]:
    """A fault of the simulator, which ends by itself."""
    return Way(lambda w: w.demo.fault(kind, OUTAGE_SECONDS), nothing, shows, OUTAGE_SECONDS)


BROKER = ("broker", "kraken-gateway", "aggregator", "influx-writer", "feeds")
FEED = ("feeds", "symbols", "kraken-gateway")
STORE = ("store", "stored", "influx-writer")
WAYS: dict[str, Way[World]] = {
    # First: after an outage a feed covers nothing until it has started anew.
    "the broker keeps candle updates silently": Way(
        lambda w: w.change_rights(NO_UPDATES), lambda w: w.change_rights(ALL), ("aggregator",)
    ),
    "the broker is stopped": Way(lambda w: w.broker.stop(), lambda w: w.broker.start(), BROKER),
    "the broker is killed": Way(lambda w: w.broker.kill(), lambda w: w.broker.start(), BROKER),
    "the broker is frozen": Way(lambda w: w.broker.freeze(), lambda w: w.broker.thaw(), BROKER),
    "something silent is in the broker's place": Way(
        lambda w: w.silence_broker(), lambda w: w.restore_broker(), BROKER
    ),
    "the broker no longer lets its user in": Way(
        lambda w: w.change_broker("mosquitto.conf", "allow_anonymous true", "allow_anonymous false"),
        lambda w: w.change_broker("mosquitto.conf", "allow_anonymous false", "allow_anonymous true"),
        BROKER,
    ),
    "the broker no longer lets its user publish and read": Way(
        lambda w: w.change_broker("acl", ALL, NONE), lambda w: w.change_broker("acl", NONE, ALL), BROKER
    ),
    "Kraken refuses everything": kraken("outage", *FEED),
    "Kraken is silent": kraken("silent", *FEED),
    "Kraken is half open": kraken("half_open", *FEED),
    "SQLite's disk is full": Way(lambda w: w.disk.fill(), lambda w: w.disk.free(), STORE),
    "SQLite's file is moved away": Way(lambda w: w.hide_store(), lambda w: w.show_store(), STORE),
    "another program holds SQLite's lock": Way(lambda w: w.lock_store(), lambda w: w.unlock_store(), STORE),
}


async def test_health_follows_each_failure_of_broker_kraken_and_file(tmp_path, mosquitto_of):
    acl = tmp_path / "acl"
    acl.write_text(ALL)
    with small_disk(tmp_path / "disk", 16) as disk:
        broker = mosquitto_of(f"allow_anonymous true\nacl_file {FOLDER}/acl\n", (acl,))
        store = tmp_path / "disk" / "candles.db"
        settings = {"MQTT_URL": broker.url, "STORE_URL": f"sqlite:///{store}", "SIM_SYMBOLS": "2"}
        async with running_demo(tmp_path, **settings) as demo:
            await steadily_green(demo, 120)
            world = World(demo, broker, store, disk)
            ways = {name: way for name, way in WAYS.items() if disk is not None or "disk" not in name}
            seen = await judge(demo, world, ways)
    assert failures(seen) == {}
