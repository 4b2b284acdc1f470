"""The bus beside gmqtt on Mosquitto: QoS 1, 400 bytes, publisher and receiver in separate processes."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec

from bench.figure import Definition, Group, Outcome, Target, UnavailableError, at_most, paired
from bench.processes import Child, broker, module
from bench.rounds import Rounds, in_turn

_SECONDS = 6.0
_PEER = "gmqtt"


class _Client:
    """A receiver and a publisher of one client library, each with a counterpart that is the same for all libraries."""

    def __init__(self, stack: ExitStack, url: str, library: str) -> None:
        def start(direction: str, client: str, topic: str) -> Child:
            command = module("bench.bus_clients", direction, client, url, f"bench/{library}/{topic}")
            child = stack.enter_context(Child(command))
            child.expect("ready")
            return child

        self._receiver, self._feeder = start("receive", library, "in"), start("publish", _PEER, "in")
        self._drain, self._publisher = start("receive", _PEER, "out"), start("publish", library, "out")

    def receive(self) -> float:
        """Microseconds of CPU to receive and acknowledge one message."""
        self._feeder.write_line("go")
        self._feeder.number()
        return self._receiver.number()

    def publish(self) -> float:
        """Microseconds of CPU to publish one message, the broker's confirmation included."""
        self._publisher.write_line("go")
        self._drain.number()
        return self._publisher.number()


def _measure(library: str) -> Mapping[str, Outcome]:
    if find_spec(_PEER) is None:
        raise UnavailableError("no gmqtt: `make bench` installs it")
    with broker() as server, ExitStack() as stack:
        ours, theirs = _Client(stack, server.url, library), _Client(stack, server.url, _PEER)
        return {
            _receive(library): _compared(in_turn(ours.receive, theirs.receive, _SECONDS)),
            _publish(library): _compared(in_turn(ours.publish, theirs.publish, _SECONDS)),
        }


def _compared(rounds: Rounds) -> Outcome:
    return paired(rounds.ours, rounds.theirs, f"{min(rounds.ours):.0f} us beside {min(rounds.theirs):.0f} us")


def _receive(library: str) -> str:
    return f"bus on {library}, receive and acknowledge"


def _publish(library: str) -> str:
    return f"bus on {library}, publish"


def _group(library: str, receive: Target | None, publish: Target | None) -> Group:
    return Group(
        (
            Definition(
                _receive(library),
                f"CPU a message of the receiving process with `MQTT_CLIENT={library}`, acknowledged each, divided by "
                "that of gmqtt. 1/4 of the 101 us of before was 1.49 times gmqtt's 17 us.",
                receive,
            ),
            Definition(
                _publish(library),
                f"CPU a message of the publishing process with `MQTT_CLIENT={library}`, until the broker has confirmed "
                "it, divided by that of gmqtt. 1/4 of the 46 to 68 us of before was about 0.9 times gmqtt's 16 us.",
                publish,
            ),
        ),
        partial(_measure, library),
    )


GROUPS = (
    _group("paho", None, None),
    _group("mqtt5", at_most(1.49), at_most(0.9)),
)
