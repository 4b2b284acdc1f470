"""Whatever the user gets wrong ends in one clear line on standard error that names it, and exit code 1 or 2."""

import fcntl
import logging
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import structlog

from command import COMMAND, crypto_ingress, environment
from crypto_ingress.cli import main
from servers import free_port

ROW = "1672531200,1,2,1,2,3,4\n"
PAIR = ("--symbol", "BTC/USDC")
TO_FILE = ("--timeframe", "1m", "--out", "out.csv")


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line in this process, which is quicker; for what ends before anything is connected."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)

    def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["crypto-ingress", *map(str, arguments)])
        with mock.patch.dict(os.environ, environment(**settings), clear=True), pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, said.out, said.err)

    yield run
    structlog.reset_defaults()


@pytest.fixture
def minutes(tmp_path: Path) -> Path:
    path = tmp_path / "minutes.csv"
    path.write_text(ROW)
    return path


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("crypto-ingress: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("Missing command",)),
        (("nonsense",), ("nonsense",)),
        (("rollup", "--nonsense"), ("--nonsense",)),
        (("rollup", *PAIR, "--out", "out"), ("FILE",)),
        (("rollup", "x.csv", "--out", "out"), ("--symbol",)),
        (("rollup", "x.csv", *PAIR), ("--out",)),
        (("rollup", "x.csv", "--symbol", "BTCUSDC", "--out", "out"), ("--symbol", "BTC/USD", "'BTCUSDC'")),
        (("rollup", "x.csv", "--symbol", "", "--out", "out"), ("--symbol", "BTC/USD", "''")),
        (("rollup", "x.csv", "--symbol", "A+B/C", "--out", "out"), ("--symbol", "BTC/USD", "'A+B/C'")),
        (("replay", "x.csv", *PAIR, "--speed", "fast"), ("--speed", "a number above 0 or max", "'fast'")),
        (("replay", "x.csv", *PAIR, "--speed", "0"), ("--speed", "'0'")),
        (("replay", "x.csv", *PAIR, "--speed=-1"), ("--speed", "'-1'")),
        (("replay", "x.csv", *PAIR, "--speed", "inf"), ("--speed", "'inf'")),
        (("replay", "x.csv", *PAIR, "--speed", "nan"), ("--speed", "'nan'")),
        (("export", *PAIR, "--timeframe", "2m", "--out", "x"), ("--timeframe", "1m, 5m", "'2m'")),
        (("export", *PAIR, "--timeframe", "1m", "--out", "x", "--from", "soon"), ("--from", "RFC 3339", "'soon'")),
        (("export", *PAIR, "--timeframe", "1m", "--out", "x", "--to", "2023-01-01"), ("--to", "'2023-01-01'")),
        (("export", *PAIR, "--timeframe", "1m", "--out", "x", "--to", "9" * 30), ("--to", "9" * 30)),
        (
            ("export", *PAIR, "--timeframe", "1m", "--out", "x", "--from", "120", "--to", "60"),
            ("--from", "--to", "1970-01-01T00:02:00Z"),
        ),
    ],
    ids=" ".join,
)
def test_wrong_argument_is_named(command, tmp_path, arguments, words):
    assert_one_line(command(*arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["mqtt://u:secret@host", "u:secret@host", "-----BEGIN PRIVATE KEY-----secret"])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("run",),
        ("import",),
        ("rollup", *PAIR, "--out", "out"),
        ("rollup", "x.csv", *PAIR, "--out"),
        ("replay", "x.csv", "--symbol"),
        ("backfill", "--from"),
        ("check-broker", "mqtt://host"),
    ],
    ids=" ".join,
)
def test_address_or_key_that_is_no_right_argument_is_not_shown(command, arguments, value):
    done = command(*arguments, value)
    assert_one_line(done, 2, "check-broker", "(hidden)")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "url", ["mqtt://user:pa@secret:word", "user:secret@host", "secret", "influxdb://u:secret@host"]
)
def test_malformed_address_of_a_broker_to_check_is_not_shown(command, url):
    done = command("check-broker", url)
    assert_one_line(done, 2, "MQTT_URL", "mqtt://user:password@host:1883")
    assert "secret" not in done.stderr


def test_version_is_printed(command):
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"crypto-ingress {version('crypto-ingress')}\n")


def test_help_is_no_error_and_names_the_commands(command):
    done = command("--help")
    assert done.returncode == 0
    for name in ("run", "demo", "rollup", "replay", "import", "export"):
        assert name in done.stdout


@pytest.mark.parametrize("verb", ["rollup", "replay", "import"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, ("No such file",)),
        ("empty.csv", "", ("the file is empty",)),
        ("broken.csv", ROW + "1672531260,2,1,1,1,1,1\n", ("line 2", "expected 0 <= low <= open, close <= high")),
        ("text.csv", "hello\n", ("line 1", "7 columns", "'hello'")),
    ],
)
def test_wrong_file_is_named(command, tmp_path, verb, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    out = ("--out", tmp_path / "out") if verb == "rollup" else ()
    done = command(verb, name, *PAIR, *out)
    assert_one_line(done, 1, name, *words)
    assert not list((tmp_path / "out").glob("*"))


def test_folder_is_no_file_to_roll_up_or_replay_and_may_be_imported(command, tmp_path, minutes):
    (tmp_path / "none").mkdir()
    assert_one_line(command("rollup", ".", *PAIR, "--out", "out"), 1, "Is a directory")
    assert_one_line(command("replay", ".", *PAIR), 1, "Is a directory")
    assert_one_line(command("import", "none", *PAIR), 1, "none", "expected .csv or .zip files")
    assert command("import", ".", *PAIR).returncode == 0


@pytest.mark.parametrize("verb", ["rollup", "replay", "import"])
def test_file_of_another_interval_is_refused_and_its_interval_named(command, tmp_path, verb):
    (tmp_path / "hours.csv").write_text("".join(f"{3600 * i},1,1,1,1,1,1\n" for i in range(40)))
    out = ("--out", "out") if verb == "rollup" else ()
    assert_one_line(command(verb, "hours.csv", *PAIR, *out), 1, "hours.csv", "60 minutes")


def test_import_without_a_symbol_reads_it_from_the_name(command, tmp_path):
    (tmp_path / "XDGEUR_1.csv").write_text(ROW)
    done = command("import", "XDGEUR_1.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "DOGE/EUR" in done.stdout


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_named(command, minutes):
    minutes.chmod(0)
    done = command("rollup", minutes, *PAIR, "--out", "out")
    assert_one_line(done, 1, str(minutes), "Permission denied")


def test_place_that_cannot_be_written_is_named(command, minutes):
    done = command("rollup", minutes, *PAIR, "--out", minutes)
    assert_one_line(done, 1, f"{minutes}/1m.csv", "cannot be written")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MQTT_URL", "http://localhost", ("mqtt://", "'http://localhost'")),
        ("MQTT_URL", "mqtt://user:secret@host:99999", ("port",)),
        ("STORE_URL", "postgres://x", ("sqlite:///path", "'postgres://x'")),
        ("STORE_URL", "sqlite://x", ("sqlite:///path",)),
        ("SYMBOLS", "BTCUSD", ("BTC/USD,ETH/USD", "'BTCUSD'")),
        ("SYMBOLS", ",", ("BTC/USD,ETH/USD",)),
        ("LOG_LEVEL", "loud", ("debug, info, warning", "'loud'")),
        ("GAP_GIVE_UP_HOURS", "0", ("from 0.1 to 87600", "'0'")),
        ("GAP_GIVE_UP_HOURS", "inf", ("from 0.1 to 87600", "'inf'")),
        ("LOG_FORMAT", "xml", ("console or json", "'xml'")),
        ("HTTP_PORT", "http", ("65535", "'http'")),
        ("KRAKEN_WS_URL", "https://x", ("wss://host", "'https://x'")),
        ("INGRESS_TOPIC_PREFIX", "a/#", ("ingress", "'a/#'")),
    ],
)
def test_wrong_setting_is_named_with_what_it_may_hold(command, name, value, words):
    done = command("run", **{name: value})
    assert_one_line(done, 2, name, *words)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("demo",), ("replay", "x", *PAIR), ("import", "x", *PAIR), ("export", *PAIR, *TO_FILE)],
    ids=lambda arguments: arguments[0],
)
def test_wrong_setting_ends_every_command_that_takes_settings(command, arguments):
    done = command(*arguments, STORE_URL="nowhere")
    assert_one_line(done, 2, "STORE_URL", "got something without ://")


def test_setting_may_come_from_a_file_and_is_named_too(command, tmp_path):
    (tmp_path / ".env").write_text("SYMBOLS=BTCUSD\n")
    assert_one_line(command("run"), 2, "SYMBOLS", "'BTCUSD'")


def test_file_of_settings_that_cannot_be_read_is_one_line(command, tmp_path):
    (tmp_path / ".env").write_text('LOG_LEVEL=info\nMQTT_URL="mqtt://user:secret@host\n')
    done = command("run")
    assert_one_line(done, 2, ".env", "line 2")
    assert "secret" not in done.stderr


# --- store ------------------------------------------------------------------------------------------------------------


def test_export_of_a_missing_store_names_it_and_makes_none(command, tmp_path):
    done = command("export", *TO_FILE, *PAIR, STORE_URL="sqlite:///missing/candles.db")
    assert_one_line(done, 1, "STORE_URL", "sqlite:///missing/candles.db")
    assert list(tmp_path.iterdir()) == []


def test_export_of_an_unknown_symbol_names_it_and_the_known_ones(command, minutes):
    assert command("import", minutes, *PAIR).returncode == 0
    done = command("export", *TO_FILE, "--symbol", "ETH/USD")
    assert_one_line(done, 1, "ETH/USD", "BTC/USDC")
    assert not (minutes.parent / "out.csv").exists()


def test_export_of_a_range_without_candles_is_the_header_alone(command, minutes):
    assert command("import", minutes, *PAIR).returncode == 0
    done = command("export", *TO_FILE, *PAIR, "--to", "2020-01-01T00:00:00Z")
    assert (done.returncode, done.stderr) == (0, "")
    assert (minutes.parent / "out.csv").read_text() == "time,open,high,low,close,volume,vwap,trades,infilled\n"


def test_range_is_taken_as_unix_seconds_and_as_rfc_3339(command, tmp_path):
    path = tmp_path / "minutes.csv"
    start = 1_700_000_040  # 2023-11-14T22:14:00Z
    path.write_text("".join(f"{start + 60 * i},1,1,1,1,1,1\n" for i in range(5)))
    assert command("import", path, *PAIR).returncode == 0
    bounds = ("--from", str(start + 60), "--to", "2023-11-14T22:17:00Z")
    assert command("export", *TO_FILE, *PAIR, *bounds).returncode == 0
    times = [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().split()]
    assert times == ["time", "1700000100", "1700000160"]


def test_store_that_is_no_database_is_named(command, minutes):
    (minutes.parent / "text.db").write_text("this is not a database" * 100)
    for arguments in (("import", minutes), ("replay", minutes), ("export", *TO_FILE)):
        done = command(*arguments, *PAIR, STORE_URL="sqlite:///text.db")
        assert_one_line(done, 1, "text.db")


def test_process_ends_with_the_same_line_and_code(tmp_path):
    assert_one_line(crypto_ingress("nonsense", folder=tmp_path), 2, "nonsense")
    done = crypto_ingress("rollup", "missing.csv", *PAIR, "--out", "out", folder=tmp_path)
    assert_one_line(done, 1, "missing.csv", "No such file")


# --- broker and ports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "replay"])
def test_broker_that_is_not_there_is_named(minutes, verb):
    url = f"mqtt://127.0.0.1:{free_port()}"
    arguments = ("run",) if verb == "run" else ("replay", minutes, *PAIR)
    done = crypto_ingress(*arguments, folder=minutes.parent, MQTT_URL=url, HTTP_PORT="0")
    assert_one_line(done, 1, url)


def test_broker_that_refuses_is_named_without_the_password(minutes, mosquitto_of):
    broker = mosquitto_of("allow_anonymous false\n")
    url = broker.url.replace("//", "//me:a-long-enough-password@")
    for arguments in (("run",), ("replay", minutes, *PAIR)):
        done = crypto_ingress(*arguments, folder=minutes.parent, MQTT_URL=url, HTTP_PORT="0")
        assert_one_line(done, 1, f"127.0.0.1:{broker.port}", "refuses")
        assert "a-long" not in done.stderr


def test_replay_to_services_elsewhere_needs_their_broker(command, minutes):
    done = command("replay", minutes, *PAIR, "--no-services")
    assert_one_line(done, 1, "--no-services", "MQTT_URL")


def test_http_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = crypto_ingress("run", folder=tmp_path, HTTP_PORT=port, KRAKEN_WS_URL="ws://127.0.0.1:1/v2")
    assert_one_line(done, 1, port)


def test_simulator_port_in_use_is_named_and_the_running_demos_store_stays(tmp_path):
    store = tmp_path / "data" / "demo.db"
    store.parent.mkdir()
    store.write_text("of the demo that has the port")
    try:
        taken = socket.create_server(("127.0.0.1", 8700))
    except OSError:
        taken = None  # whoever has it will do
    try:
        done = crypto_ingress("demo", folder=tmp_path, HTTP_PORT="0")
    finally:
        if taken:
            taken.close()
    assert_one_line(done, 1, "8700")
    assert store.exists()


def test_second_demo_in_a_folder_is_refused_and_the_running_demos_store_stays(tmp_path):
    store = tmp_path / "data" / "demo.db"
    store.parent.mkdir()
    store.write_text("of the demo that runs")
    with (tmp_path / "data" / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ports = {"SIM_PORT": "0", "SIM_CONTROL_PORT": "0", "HTTP_PORT": "0"}
        done = crypto_ingress("demo", folder=tmp_path, **ports)
    assert_one_line(done, 1, "another demo")
    assert store.exists()


def test_unreachable_kraken_is_a_hint_and_is_retried(tmp_path):
    url = f"ws://127.0.0.1:{free_port()}/v2"
    settings = {"KRAKEN_WS_URL": url, "KRAKEN_REST_URL": f"http://127.0.0.1:{free_port()}", "HTTP_PORT": "0"}
    with (tmp_path / "said").open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, "run"], cwd=tmp_path, env=environment(**settings), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        hint = f"cannot reach Kraken at {url}"
        while hint not in (said := (tmp_path / "said").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        assert process.poll() is None
    finally:
        process.send_signal(2)
        assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "said").read_text()
