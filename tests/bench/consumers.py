"""The consumers that write candles from the bus to InfluxDB: our writer, and Telegraf as its peer."""

import shutil
from collections.abc import Callable
from pathlib import Path

from bench.figure import UnavailableError
from bench.influx_points import InfluxPoints
from bench.processes import Child, module

Consumer = Callable[[str, InfluxPoints, Path], Child]
"""Creates the process, not yet started, for a broker's URL, an InfluxDB and a folder. All use the same session."""

# Batches of the writer's size. `at` is left out: the parser has no integers for times.
_TELEGRAF = """\
[agent]
  omit_hostname = true
  interval = "1s"
  flush_interval = "1s"
  metric_batch_size = 5000
  metric_buffer_limit = 100000
  quiet = true

[[inputs.mqtt_consumer]]
  servers = ["{broker}"]
  topics = ["{topics}"]
  topic_tag = ""
  qos = 1
  client_id = "telegraf"
  persistent_session = true
  max_undelivered_messages = 5000
  data_format = "json_v2"

  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "candle"
    timestamp_path = "open_time"
    timestamp_format = "rfc3339"
{parts}
[[outputs.influxdb_v2]]
  urls = ["{influx}"]
  token = "{token}"
  organization = "{organisation}"
  bucket = "candles_1m"
"""
_TAGS = ("exchange", "symbol")
_FIELDS = {
    **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "float"),
    **dict.fromkeys(("trades", "revision"), "int"),
    **dict.fromkeys(("closed", "infilled", "complete"), "bool"),
    "source": "string",
}


def writer(broker: str, influx: InfluxPoints, folder: Path) -> Child:
    """`influx-writer`, as deployed."""
    return Child(
        module("influx_writer"),
        folder,
        MQTT_URL=broker,
        STORE_URL=influx.url.replace("http", "influxdb", 1),
        INFLUX_ORG=influx.organisation,
        INFLUX_TOKEN=influx.token,
        INSTANCE_ID="bench",
        HTTP_PORT="0",
        LOG_LEVEL="warning",
    )


def telegraf(broker: str, influx: InfluxPoints, folder: Path) -> Child:
    """Telegraf with the same tags and fields. UnavailableError where it is not on the PATH."""
    binary = shutil.which("telegraf")
    if binary is None:
        raise UnavailableError(
            "no telegraf: put Telegraf 1.37 on the PATH, a release or one built with the tags "
            "custom,inputs.mqtt_consumer,outputs.influxdb_v2,parsers.json_v2"
        )
    tags = [f'    [[inputs.mqtt_consumer.json_v2.tag]]\n      path = "{name}"\n' for name in _TAGS]
    fields = [
        f'    [[inputs.mqtt_consumer.json_v2.field]]\n      path = "{name}"\n      type = "{kind}"\n'
        for name, kind in _FIELDS.items()
    ]
    configuration = folder / "telegraf.conf"
    configuration.write_text(
        _TELEGRAF.format(
            broker=broker.replace("mqtt://", "tcp://"),
            topics="ingress/candles/kraken/+/+",
            parts="".join(tags + fields),
            influx=influx.url,
            token=influx.token,
            organisation=influx.organisation,
        )
    )
    return Child([binary, "--config", str(configuration)], folder)
