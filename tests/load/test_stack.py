"""A load run's stack can be made; `make load` runs it."""

import shutil

from load.processes import Shape, Stack
from servers import missing


def test_every_service_and_server_is_a_part_that_is_measured(tmp_path):
    for program, how in (("mosquitto", "install the package mosquitto"), ("influxd", "put influxd 2.7 on the PATH")):
        if shutil.which(program) is None:
            missing(program, how)
    stack = Stack(tmp_path, Shape(3, 1.0, counts={"aggregator": 2}))
    names = ["kraken-gateway-1", "aggregator-1", "aggregator-2", "influx-writer-1", "admin-api-1"]
    assert [part.name for part in stack.parts] == [*names, "mosquitto", "influxd", "simulator"]
    assert stack.usage().keys() == {part.name for part in stack.parts}
