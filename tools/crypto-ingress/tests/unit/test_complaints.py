"""No complaint about any setting of any service shows a secret that was given to the wrong setting."""

import logging
from collections.abc import Iterator

import pytest

from crypto_ingress.reference.configuration import SERVICES
from crypto_ingress.settings import DemoSettings, RunSettings
from ingress_common.errors import SettingsError
from ingress_common.proxies import prepare_proxies
from ingress_common.secret_files import may_come_from_file
from ingress_common.settings import ServiceSettings, load_settings
from unset import unset

MARKER = "S3cr3tPw"
KEY = f"-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END PRIVATE KEY-----\n"

ANYWHERE = (
    KEY,
    KEY.replace("\n", "\\n"),
    MARKER * 5,
    f"{MARKER}@host",
    f"{MARKER}:@host",
    f"{MARKER}://host",
    f"user:{MARKER}",
    f"user:{MARKER}@10.0.0.1",
    f"user:pass {MARKER}@10.0.0.1",
    f"user:pass\n{MARKER}@10.0.0.1",
    f"user:pass,{MARKER},word@10.0.0.1",
    f"user:it's\"{MARKER}@10.0.0.1",
    f"1m=u:{MARKER}@x",
    f"BTC/USD,u:{MARKER}@x",
)
"""Values that no setting may show."""

ADDRESSES = (
    f"{MARKER}@host",
    f"user:{MARKER}",
    f"user:{MARKER}@host:1",
    f"user:{MARKER}@host/db",
    f"user:{MARKER}@host:port",
    f"user:pa@{MARKER}:word",
    f"user:pa@ss:{MARKER}",
    f"user:pa/{MARKER}@host",
    f"user:pa?{MARKER}@host",
    f"user:pa#{MARKER}@host",
    f"user:pa[{MARKER}]@host",
    f"user:pa {MARKER}@host",
    f"user;{MARKER}",
    f"host?token={MARKER}",
    f"host#{MARKER}",
    f"/user:{MARKER}@host/db",
)
"""What may stand after a scheme."""

SCHEMES = ("mqtt", "mqtts", "ws", "wss", "http", "https", "influxdb", "influxdbs", "sqlite", "redis")

ALONE = (MARKER, f"/{MARKER}", f"/{MARKER}/{MARKER}", f"/tmp/{MARKER}", f"./{MARKER}", f"../{MARKER}", f"~/{MARKER}")
"""Values that settings with a secret, an address or a file must not show either."""

KINDS = (*SERVICES.values(), RunSettings, DemoSettings)


def variables() -> list[tuple[str, type[ServiceSettings]]]:
    """Each variable, with every settings class that defines it in its own way."""
    fields = {(name, repr(field)): kind for kind in KINDS for name, field in kind.model_fields.items()}
    found = [(name.upper(), kind) for (name, _), kind in fields.items()]
    return found + [
        (f"{name.upper()}_FILE", kind)
        for (name, _), kind in fields.items()
        if may_come_from_file(name, kind.model_fields[name])
    ]


def values(variable: str) -> Iterator[str]:
    """Values with a secret that `variable` may be given by mistake."""
    yield from ANYWHERE
    if variable.endswith(("_FILE", "_URL", "_TOKEN", "_PASSWORD")):
        yield from ALONE
    schemes = SCHEMES if variable.endswith("_URL") else ("http",)
    yield from (f"{scheme}://{address}" for scheme in schemes for address in ADDRESSES)


def complaint(kind: type[ServiceSettings]) -> str | None:
    try:
        load_settings(kind)
    except SettingsError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("variable", "kind"), variables())
def test_no_setting_shows_a_secret(monkeypatch, tmp_path, variable, kind):
    unset(monkeypatch, kind, tmp_path)
    monkeypatch.setenv("SYMBOLS", "BTC/USD")
    monkeypatch.setenv("STORE_URL", "sqlite:///candles.db")
    for value in values(variable):
        monkeypatch.setenv(variable, value)
        text = complaint(kind)
        if text is None:
            assert not variable.endswith("_FILE"), value
            continue
        assert MARKER.lower() not in text.lower(), value
        assert variable in text
        assert "\n" not in text


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY", "socks_proxy"])
def test_no_proxy_variable_shows_a_secret(variable):
    for value in values("PROXY_URL"):
        try:
            prepare_proxies({variable: value})
        except SettingsError as error:
            text = str(error)
        else:
            continue
        assert MARKER.lower() not in text.lower(), value
        assert text.startswith(f"{variable}: ")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f'LOG_LEVEL=info\n\n# a comment\n\n\nMQTT_URL="mqtt://u:{MARKER}@host\n', 6),
        (f"MQTT_PASSWORD='{MARKER}\nLOG_LEVEL=info\n", 1),
        (f'A="two\nlines"\n{MARKER} {MARKER}\n', 3),
    ],
)
def test_a_line_of_env_that_cannot_be_read_is_named_by_its_number(monkeypatch, tmp_path, caplog, kind, content, line):
    unset(monkeypatch, kind, tmp_path)
    (tmp_path / ".env").write_text(content)
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError) as caught:
        load_settings(kind)
    assert str(caught.value).startswith(f".env: expected NAME=value in line {line}, ")
    assert MARKER not in str(caught.value)
    assert not caplog.records
