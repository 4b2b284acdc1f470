"""Who may do what: every identity, allowed and denied tries, with and without TLS, on the real servers."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api import AdminSettings
from admin_api.app import AdminApi
from ingress_common.bus import BusError, Message
from ingress_common.bus.mqtt import MqttBus, secret_client_id
from ingress_common.tls import TlsFiles
from ingress_store import InfluxAccess, InfluxStore, SqliteStore
from ingress_store.influx.names import READER_TOKEN, WRITER_TOKEN
from stack_users import PREFIX, USERS, StackMosquitto
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-admin-token"

TOPICS: Mapping[str, str] = {
    "raw": f"{PREFIX}/raw/kraken/BTC-USD/1m",
    "history": f"{PREFIX}/history/kraken/BTC-USD/5m",
    "feed": f"{PREFIX}/feed/kraken/f1",
    "watermark": f"{PREFIX}/feed/kraken/f1/watermark",
    "candles": f"{PREFIX}/candles/kraken/BTC-USD/1m",
    "ending": f"{PREFIX}/ending/kraken/BTC-USD/1w",
    "seed": f"{PREFIX}/request/kraken/seed",
    "backfill": f"{PREFIX}/request/kraken/history",
    "republish": f"{PREFIX}/request/kraken/republish",
    "check": f"{PREFIX}/check/1",
    "gateway": f"{PREFIX}/status/kraken-gateway/i1",
    "aggregator": f"{PREFIX}/status/aggregator/i1",
    "writer": f"{PREFIX}/status/influx-writer/i1",
    "marks": f"{PREFIX}/status/influx-writer/i1/marks",
    "admin": f"{PREFIX}/status/admin-api/i1",
    "gateway's dead letters": f"{PREFIX}/dead-letter/kraken-gateway",
    "aggregator's dead letters": f"{PREFIX}/dead-letter/aggregator",
    "writer's dead letters": f"{PREFIX}/dead-letter/influx-writer",
    "admin's dead letters": f"{PREFIX}/dead-letter/admin-api",
    "other stack": "other/candles/kraken/BTC-USD/1m",
}
"""One topic of each kind."""

_OWN = frozenset(TOPICS) - {"other stack"}


@dataclass(frozen=True)
class Rights:
    """The topics that an identity may publish to and read, by their names in TOPICS."""

    publishes: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()


def _rights(publishes: str, reads: str) -> Rights:
    return Rights(frozenset(publishes.split(", ")) if publishes else frozenset(), frozenset(reads.split(", ")))


RIGHTS: Mapping[str, Rights] = {
    "kraken-gateway": _rights(
        "raw, history, feed, watermark, gateway, gateway's dead letters", "seed, backfill, republish, gateway"
    ),
    "aggregator": _rights(
        "candles, ending, seed, backfill, republish, aggregator, aggregator's dead letters",
        "raw, history, feed, watermark, candles, ending, republish, gateway, aggregator",
    ),
    "influx-writer": _rights(
        "republish, writer, marks, writer's dead letters", "raw, feed, watermark, candles, writer, marks"
    ),
    "admin-api": _rights(
        "raw, history, feed, watermark, candles, seed, backfill, republish, check, admin, admin's dead letters",
        ", ".join(_OWN),
    ),
    "viewer": Rights(frozenset(), _OWN),
    "health": Rights(),
}
"""Who is not here is not let in."""


@pytest.fixture(params=["plain", "tls"])
def broker(request, mosquitto_of, certificates, tmp_path):
    """The URL of the stack's broker by user."""
    return StackMosquitto(mosquitto_of, tmp_path, certificates if request.param == "tls" else None).url


def test_every_user_and_every_kind_of_topic_is_in_the_table():
    assert tuple(RIGHTS) == USERS
    described = json.loads((ROOT / "docs/asyncapi.json").read_text())["channels"].values()
    kinds = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(channel["address"])) for channel in described]
    assert [kind for kind in kinds if not any(re.fullmatch(kind, topic) for topic in TOPICS.values())] == []


@pytest.mark.parametrize("user", RIGHTS)
async def test_each_user_of_the_broker_may_do_what_is_listed_and_nothing_else(broker, user):
    rights = RIGHTS[user]
    published: set[str] = set()
    received: set[str] = set()
    # Mosquitto ends the connection of who publishes what he may not, so reading is tried on another one.
    async with MqttBus(broker(user), client_id=f"publishing-{user}") as bus:
        for name, topic in TOPICS.items():
            try:
                await (await bus.publish(topic, b"by-user"))
            except BusError:
                continue
            published.add(name)
    async with (
        MqttBus(broker(user), client_id=f"reading-{user}") as bus,
        MqttBus(broker("tester"), client_id=f"tester-{user}") as tester,
    ):
        await bus.subscribe("#")
        for topic in TOPICS.values():
            await (await tester.publish(topic, b"by-tester"))
        # What everybody may read comes last, and so after all that this one may.
        if rights.reads:
            await (await tester.publish(TOPICS[min(rights.reads)], b"end"))
        else:
            await bus.subscribe("$SYS/broker/uptime")
        names = {topic: name for name, topic in TOPICS.items()}
        async for event in bus.events():
            if not isinstance(event, Message):
                continue
            event.ack()
            if event.payload == b"end" or event.topic == "$SYS/broker/uptime":
                break
            if event.payload == b"by-tester":
                received.add(names[event.topic])
    assert published == rights.publishes
    assert received == rights.reads


@pytest.mark.parametrize(
    ("user", "password"), [("viewer", "wrong"), ("nobody", "wrong"), ("kraken-gateway", "change-me")]
)
async def test_anonymous_clients_are_refused(broker, user, password):
    with pytest.raises(BusError):
        async with MqttBus(broker(user, password), client_id="stranger"):
            pass


async def test_viewer_cannot_take_over_a_session_by_its_name(broker):
    name = "ingress-influx-writer-w1"
    async with MqttBus(broker("influx-writer"), client_id=name, session_expiry=3600) as writer:
        await writer.subscribe(TOPICS["candles"])
        for guess in (name, secret_client_id(name, broker("viewer")), secret_client_id(name, broker("viewer", "x"))):
            # A bus of the viewer's own, under exactly this client id.
            url = broker("viewer")
            async with MqttBus(url, client_id=guess, session_expiry=1) as viewer:
                assert viewer.connected
                assert writer.connected
        async with MqttBus(broker("tester"), client_id="t") as tester:
            await (await tester.publish(TOPICS["candles"], b"for the writer"))
        async for event in writer.events():
            if isinstance(event, Message):
                assert event.payload == b"for the writer"
                break


TOKENS: Mapping[str, frozenset[str]] = {
    "operator": frozenset({f"{do} {whose}" for do in ("write", "read", "delete") for whose in ("ours", "foreign")})
    | {"make a bucket", "make a token", "make a task"},
    WRITER_TOKEN: frozenset({"write ours", "read ours", "delete ours"}),
    READER_TOKEN: frozenset({"read ours", "read foreign"}),
    "inactive": frozenset(),
    "wrong": frozenset(),
    "none": frozenset(),
}
"""What each token of InfluxDB may do; `inactive` is the writer's, switched off."""


def _influx_tries(org_id: str) -> Mapping[str, tuple[str, Mapping[str, str], Mapping[str, object] | str]]:
    """Path, parameters and body of one try of each kind."""
    tries: dict[str, tuple[str, Mapping[str, str], Mapping[str, object] | str]] = {
        "make a bucket": ("buckets", {}, {"orgID": org_id, "name": uuid4().hex, "retentionRules": []}),
        "make a token": (
            "authorizations",
            {},
            {"orgID": org_id, "permissions": [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]},
        ),
        "make a task": (
            "tasks",
            {},
            {
                "orgID": org_id,
                "flux": 'option task = {name: "t", every: 1h}\nfrom(bucket: "foreign") |> range(start: -1h)',
            },
        ),
    }
    for whose, bucket in (("ours", "candles_1m"), ("foreign", "foreign")):
        place = {"orgID": org_id, "bucket": bucket}
        window = {"start": "2020-01-01T00:00:00Z", "stop": "2020-01-02T00:00:00Z"}
        tries[f"write {whose}"] = ("write", {"org": org_id, "bucket": bucket, "precision": "s"}, "try value=1")
        tries[f"read {whose}"] = (
            "query",
            {"orgID": org_id},
            {"query": f'from(bucket: "{bucket}") |> range(start: -1h)'},
        )
        tries[f"delete {whose}"] = ("delete", place, window)
    return tries


@pytest.mark.parametrize("transport", ["plain", "tls"])
async def test_each_token_of_influxdb_may_do_what_is_listed_and_nothing_else(
    influx_place, influx_of, certificates, transport
):
    tls = TlsFiles(certificates.ca) if transport == "tls" else TlsFiles()
    place = influx_of(certificates).place if tls else influx_place
    access = InfluxAccess(f"access-{uuid4().hex[:8]}", place.token, tls)
    async with InfluxStore(place.store_url, access) as store:
        await store.bootstrap()
    base = f"{place.url.replace('influxdb', 'http')}/api/v2/"
    verify = tls.client_context()
    operator = {"Authorization": f"Token {place.token}"}
    async with httpx.AsyncClient(base_url=base, verify=verify) as http:
        org_id = (await http.get("orgs", params={"org": access.org}, headers=operator)).json()["orgs"][0]["id"]
        foreign = {"orgID": org_id, "name": "foreign", "retentionRules": []}
        assert (await http.post("buckets", json=foreign, headers=operator)).status_code == 201
        made = (await http.get("authorizations", params={"orgID": org_id}, headers=operator)).json()["authorizations"]
        tokens = {token["description"]: token["token"] for token in made} | {"operator": place.token, "wrong": "wrong"}
        writer = next(token for token in made if token["description"] == WRITER_TOKEN)
        copy = {"orgID": org_id, "permissions": writer["permissions"], "status": "inactive"}
        tokens["inactive"] = (await http.post("authorizations", json=copy, headers=operator)).json()["token"]
        for name, allowed in TOKENS.items():
            headers = {"Authorization": f"Token {tokens[name]}"} if name in tokens else {}
            done = set()
            for what, (path, parameters, body) in _influx_tries(org_id).items():
                sent = {"content": body} if isinstance(body, str) else {"json": body}
                answer = await http.post(path, params=parameters, headers=headers, **sent)
                if answer.is_success:
                    done.add(what)
            assert done == allowed, name


@asynccontextmanager
async def _admin(tmp_path: Path, token: str | None, tls: TlsFiles) -> AsyncIterator[AdminApi]:
    import asyncio

    memory = MemoryBroker()
    files = {"http_client_ca_file": tls.ca_file, "http_cert_file": tls.cert_file, "http_key_file": tls.key_file}
    path = tmp_path / "candles.db"
    service = AdminApi(
        AdminSettings(
            _env_file=None,
            store_url=f"sqlite:///{path}",
            instance_id="a1",
            http_port=0,
            admin_token=token,
            self_check_seconds=0,
            **files,
        ),
        bus=MemoryBus(memory, client_id="admin"),
        dead_letter_bus=MemoryBus(memory, client_id="letters"),
        store=SqliteStore(path),
        registry=CollectorRegistry(),
        started_at=0.0,
    )
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: service.health().ready or task.done())
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task])


OPEN = ("/health/live", "/metrics", "/symbols", "/bootstrap", "/gaps", "/openapi.json", "/")
"""What everybody may read."""

CHANGES = (
    ("POST", "/bootstrap"),
    ("POST", "/repair"),
    ("POST", "/dead-letters/x/resend"),
    ("DELETE", "/dead-letters/x"),
)
"""What takes the bearer token."""


@pytest.mark.parametrize("transport", ["plain", "tls", "tls with client certificates"])
@pytest.mark.parametrize("setting", [TOKEN, None])
async def test_http_is_open_to_read_and_changes_with_the_token_alone(tmp_path, certificates, transport, setting):
    tls = TlsFiles()
    scheme, verify = "http", True
    if transport != "plain":
        clients = certificates.ca if "client" in transport else None
        tls = TlsFiles(clients, certificates.cert("admin-api"), certificates.key("admin-api"))
        scheme, verify = "https", ssl.create_default_context(cafile=str(certificates.ca))
    async with _admin(tmp_path, setting, tls) as service:
        base = f"{scheme}://127.0.0.1:{service.port}"
        if "client" in transport:
            async with httpx.AsyncClient(base_url=base, verify=verify) as http:
                with pytest.raises(httpx.HTTPError):
                    await http.get("/health/live")
            verify.load_cert_chain(certificates.cert("client"), certificates.key("client"))
        async with httpx.AsyncClient(base_url=base, verify=verify) as http:
            for path in OPEN:
                assert (await http.get(path)).status_code in (200, 503), path
            for method, path in CHANGES:
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                    answer = await http.request(method, path, headers=headers)
                    assert answer.status_code == 401, (method, path, headers)
                answer = await http.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
                assert (answer.status_code == 401) == (setting is None), (method, path, answer.text)
