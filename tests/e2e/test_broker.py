"""The broker of the stack: its container alone."""

import secrets

import pytest

from demo_stack import Stack, until, why_no_stack
from ingress_common.bus import BusError
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from servers import missing

_HEALTHY_SECONDS = 60
_PASSWORD = "own:pass word#'$x"


@pytest.fixture
def stack_with(tmp_path):
    """Makes a stack whose viewer has this password."""
    if reason := why_no_stack():
        missing("Docker with Compose and the base images", reason)
    made = []

    def make(password: str) -> Stack:
        made.append(Stack(f"ingress-broker-{secrets.token_hex(4)}", settings={"MQTT_VIEWER_PASSWORD": password}))
        return made[-1]

    yield make
    for stack in made:
        stack.remove(tmp_path / f"{stack.name}.log")


async def test_the_whole_password_is_required(stack_with):
    stack = stack_with(_PASSWORD)
    stack.compose("up", "--detach", "--wait", "--wait-timeout", str(_HEALTHY_SECONDS), "broker")
    host, _, port = stack.mqtt_address.partition(":")
    async with MqttBus(MqttUrl(host, int(port), username="viewer", password=_PASSWORD), client_id="") as bus:
        assert bus.connected
    with pytest.raises(BusError, match="refuses the connection"):
        async with MqttBus(MqttUrl(host, int(port), username="viewer", password="own"), client_id=""):
            pass


@pytest.mark.parametrize("password", [" own", "own ", "own\nother"])
def test_a_password_that_a_service_would_not_send_as_it_is_is_refused_in_one_line(stack_with, password):
    stack = stack_with(password)
    stack.compose("up", "--detach", "broker")
    expected = "broker: MQTT_VIEWER_PASSWORD: expected a password without a blank"
    until(lambda: expected in stack.compose("logs", "broker"), _HEALTHY_SECONDS, "the broker to refuse the password")
