"""The service as a process: its settings, and its error if it cannot start."""

import socket

import pytest

from command import program


def run(tmp_path, **settings):
    return program("admin_api", folder=tmp_path, **{"HTTP_PORT": "0", **settings})


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "STORE_URL is not set"),
        ({"STORE_URL": "influxdb://localhost:8086"}, "INFLUX_ORG and INFLUX_TOKEN"),
        ({"STORE_URL": "sqlite:///c.db", "HTTP_PORT": "http"}, "HTTP_PORT"),
        ({"STORE_URL": "sqlite:///c.db", "RETENTION": "soon"}, "RETENTION"),
        ({"STORE_URL": "sqlite:///c.db", "RETENTION": "1m=90d,1m=5d"}, "expected 1m once, got it again in '1m=5d'"),
        ({"STORE_URL": "sqlite:///c.db", "RATE_LIMIT": "-1"}, "RATE_LIMIT"),
        ({"STORE_URL": "sqlite:///c.db", "RATE_BURST": "0"}, "RATE_BURST"),
        ({"STORE_URL": "sqlite:///c.db", "MAX_STREAMS": "many"}, "MAX_STREAMS"),
        (
            {"STORE_URL": "sqlite:///c.db", "CORS_ORIGINS": "https://a.org, example.org"},
            "got 'example.org'",
        ),
        ({"STORE_URL": "sqlite:///c.db", "TRUSTED_PROXIES": "s3cret"}, "or * for all, got something else (hidden)\n"),
        ({"STORE_URL": "sqlite:///c.db", "HTTP_HOST": "s3cr*t"}, "or 0.0.0.0, got something else (hidden) (it is nei"),
        ({"STORE_URL": "sqlite:///c.db", "TRUSTED_PROXIES": "u:p,w@10.0.0.1"}, "got something else (hidden) (it con"),
        ({"STORE_URL": "sqlite:///c.db", "TRUSTED_PROXIES": "10.0.0.0/33"}, "got '10.0.0.0/33'"),
        ({"STORE_URL": "sqlite:///c.db", "TRUSTED_PROXIES": "1.1.1.1,10.0.0.1/8"}, "got '10.0.0.1/8'"),
        ({"STORE_URL": "sqlite:///c.db", "AUDIT_MINUTES": "0"}, "AUDIT_MINUTES: expected a number of minutes"),
        ({"STORE_URL": "sqlite:///c.db", "AUDIT_HORIZON": "7"}, "AUDIT_HORIZON: expected a time such as 12h, 7d"),
        (
            {"STORE_URL": "sqlite:///c.db", "SELF_CHECK_SECONDS": "-1"},
            "SELF_CHECK_SECONDS: expected a number of seconds",
        ),
        (
            {"STORE_URL": "sqlite:///c.db", "SELF_CHECK_SECONDS": "1e-9"},
            "SELF_CHECK_SECONDS: expected a number of seconds from 1 to 3600, or 0 for no self-check, got '1e-9'",
        ),
    ],
)
def test_a_wrong_setting_ends_in_one_line_and_exit_code_2(tmp_path, environment, named):
    done = run(tmp_path, **environment)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr


def test_a_file_that_cannot_be_used_ends_in_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "c.db").mkdir()
    done = run(tmp_path, STORE_URL="sqlite:///c.db")
    assert done.returncode == 1
    assert "c.db" in done.stderr.strip().splitlines()[-1]


def test_a_broker_that_is_not_there_ends_in_one_line_and_exit_code_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = run(tmp_path, STORE_URL="sqlite:///c.db", MQTT_URL=f"mqtt://127.0.0.1:{port}")
    assert done.returncode == 1
    assert str(port) in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
