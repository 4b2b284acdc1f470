"""The machine and the versions of a measurement."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("msgspec", "paho-mqtt", "mqtt5", "gmqtt", "nautilus_trader", "polars", "influxdb-client")
_PROGRAMS = {"mosquitto": ("-h",), "influxd": ("version",), "telegraf": ("--version",)}
_VERSION = re.compile(r"v?(\d{1,3}\.\d+(?:\.\d+)?)")


def describe() -> Mapping[str, str]:
    """Date, machine and versions, by name."""
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load average at the end": _load(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_package(name)}" for name in _PACKAGES),
        "programs": ", ".join(f"{name} {_program(name, *arguments)}" for name, arguments in _PROGRAMS.items()),
    }


def _commit() -> str:
    found = _output("git", "describe", "--always", "--dirty")
    return found.strip() or "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return names[0] if names else platform.machine()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _program(name: str, *arguments: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        return "not installed"
    # A program built without a release's flags does not know its version; its file name may.
    found = _VERSION.search(_output(path, *arguments)) or _VERSION.search(Path(path).resolve().name)
    return found[1] if found else "of unknown version"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
