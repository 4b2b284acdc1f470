"""Two stacks on one broker: each has a topic prefix of its own, or the second one does not start."""

from pathlib import Path

import httpx
import pytest

from command import Running, program
from servers import free_port
from waiting import until

pytestmark = pytest.mark.timeout(180)


async def is_ready(port: int) -> bool:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        try:
            return (await http.get("/health/ready")).status_code == 200
        except httpx.TransportError:
            return False


async def test_a_stack_with_another_store_is_refused_under_the_same_prefix_and_served_under_its_own(
    mosquitto_of, tmp_path: Path
):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    ports = [free_port(), free_port()]
    settings = {"MQTT_URL": mosquitto_of("allow_anonymous true\n").url}
    one = {**settings, "STORE_URL": "sqlite:///one.db", "INSTANCE_ID": "one", "HTTP_PORT": str(ports[0])}
    two = {**settings, "STORE_URL": "sqlite:///two.db", "INSTANCE_ID": "two", "HTTP_PORT": str(ports[1])}
    async with Running("one", "admin_api", folder=first, **one) as running:
        await until(lambda: is_ready(ports[0]), 60, running.output)
        refused = program("admin_api", folder=second, **two)
        assert refused.returncode == 2
        (line,) = [text for text in refused.stderr.splitlines() if text.startswith("admin-api: ")]
        assert line.startswith(
            "admin-api: INGRESS_TOPIC_PREFIX: expected a prefix of its own for every stack, got 'ingress'"
        )
        async with Running("two", "admin_api", folder=second, **two, INGRESS_TOPIC_PREFIX="other") as other:
            await until(lambda: is_ready(ports[1]), 60, other.output)
            assert await is_ready(ports[0])
