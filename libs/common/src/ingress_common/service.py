"""Runs one service as a process: settings, logs, signals, health server, exit code."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector

from ingress_common.bus.port import BusError
from ingress_common.connector import Connector
from ingress_common.errors import SettingsError, StartError, first_of
from ingress_common.file_limit import FileLimitReporter
from ingress_common.health import Health
from ingress_common.health_server import HealthServer
from ingress_common.logs import configure_logging, get_logger
from ingress_common.proxies import prepare_proxies
from ingress_common.settings import ServiceSettings, load_settings

__all__ = ["Service", "SettingsError", "StartError", "run_http_service", "run_service"]

_STOP_SECONDS = 10.0

log = get_logger(__name__)


class Service(Protocol):
    """The interface that a service offers to its runner."""

    name: str

    async def run(self) -> None:
        """Work until cancelled, then drain and clean up. StartError or BusError if it cannot work."""
        ...

    def health(self) -> Health:
        """The current health. Fast, and callable at any time, also before `run`."""
        ...


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


Build = Callable[[SettingsT, CollectorRegistry, Connector], Service]


def run_service(name: str, settings_type: type[SettingsT], build: Build[SettingsT]) -> int:
    """Run a service, with its health server on HTTP_PORT, until SIGTERM or SIGINT.

    Returns the exit code: 0 (clean), 1 (failure) or 2 (wrong setting). A failure that the operator can fix is one line
    on standard error; any other is logged with its traceback.
    """

    async def run(settings: SettingsT, service: Service, registry: CollectorRegistry) -> None:
        server = HealthServer(settings.http_host, settings.http_port, service.health, registry, settings.http_tls)
        async with server:
            await _until_signal(service)

    return _run(name, settings_type, build, run)


def run_http_service(name: str, settings_type: type[SettingsT], build: Build[SettingsT]) -> int:
    """Do the same as `run_service` for a service that serves its own HTTP, health included."""

    async def run(_settings: SettingsT, service: Service, _registry: CollectorRegistry) -> None:
        await _until_signal(service)

    return _run(name, settings_type, build, run)


def _run(
    name: str,
    settings_type: type[SettingsT],
    build: Build[SettingsT],
    run: Callable[[SettingsT, Service, CollectorRegistry], Coroutine[Any, Any, None]],
) -> int:
    async def work() -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        service = build(settings, registry, Connector.of(settings, name, registry))
        async with AsyncExitStack() as stack:
            if settings.health_port is not None:
                local = HealthServer("127.0.0.1", settings.health_port, service.health, registry)
                await stack.enter_async_context(local)
            await run(settings, service, registry)

    try:
        prepare_proxies(os.environ)
        settings = load_settings(settings_type)
        configure_logging(settings.log_level, settings.log_format)
        warn_of_unsafe_secrets(settings)
        asyncio.run(work())
    except SettingsError as error:
        return _end(name, error, 2)
    except (StartError, BusError) as error:
        return _end(name, error, 1)
    except BaseExceptionGroup as group:
        known, unknown = group.split((StartError, BusError))
        if known is not None and unknown is None:
            first = first_of(known)
            return _end(name, first, 2 if isinstance(first, SettingsError) else 1)
        log.critical("service.crashed", service=name, exc_info=group)
        return 1
    except Exception as error:
        log.critical("service.crashed", service=name, exc_info=error)
        return 1
    return 0


def warn_of_unsafe_secrets(settings: ServiceSettings) -> None:
    """Log a warning for each secret in `settings` that is easily guessed."""
    for kind, variables in settings.unsafe_secrets.items():
        event = f"settings.{kind.removesuffix('s').replace('_', '-')}"
        for variable in variables:
            log.warning(event, variable=variable, advice="set a long random secret of your own: make env")


async def _until_signal(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(FileLimitReporter())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("service.started", service=service.name)
    work = asyncio.create_task(service.run(), name=service.name)
    stopping = asyncio.create_task(stop.wait(), name="service.signal")
    await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        log.info("service.stopping", service=service.name)
        work.cancel()
        _, running = await asyncio.wait([work], timeout=_STOP_SECONDS)
        if running:
            # Do not hang: the broker publishes the last will and redelivers what is unacknowledged.
            log.error("service.stop-timeout", service=service.name, seconds=_STOP_SECONDS)
            sys.stderr.flush()
            os._exit(1)
    if not work.cancelled():
        work.result()
    log.info("service.stopped", service=service.name)


def _end(name: str, error: BaseException, code: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
    return code
