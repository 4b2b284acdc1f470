"""The service as a process: its settings."""

import pytest

from command import program


def run(tmp_path, **settings):
    return program("influx_writer", folder=tmp_path, **{"HTTP_PORT": "0", **settings})


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "STORE_URL is not set"),
        ({"STORE_URL": "postgres://host"}, "STORE_URL"),
        ({"STORE_URL": "influxdb://localhost:8086"}, "INFLUX_ORG and INFLUX_TOKEN"),
        ({"STORE_URL": "sqlite:///c.db", "RETENTION": "2m=1d"}, "RETENTION"),
        ({"STORE_URL": "sqlite:///c.db", "MQTT_URL": "http://x"}, "MQTT_URL"),
    ],
)
def test_a_wrong_setting_ends_in_one_line_and_exit_code_2(tmp_path, environment, named):
    done = run(tmp_path, **environment)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr


def test_a_file_that_is_no_database_ends_in_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "c.db").write_text("this is not a database, and long enough to be read as one " * 10)
    done = run(tmp_path, STORE_URL="sqlite:///c.db")
    assert done.returncode == 1
    assert "c.db" in done.stderr.strip().splitlines()[-1]
