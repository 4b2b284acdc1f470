"""Structured logs: events with fields, one line each, on standard error.

A traceback shows lines of code and never local variables, because those hold tokens, passwords and whole messages.
"""

import logging
import sys

import structlog

_BEFORE: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure_logging(level: str, format: str) -> None:  # noqa: A002 - the name of the setting
    """Send all logs, libraries' included, to standard error. Call it once, in the program that starts the services.

    `level`: debug, info, warning, error or critical. `format`: `console` for people, `json` for machines.
    """
    if format == "json":
        last: tuple[structlog.typing.Processor, ...] = (
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        )
    else:
        last = (
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=0,
                pad_level=False,
                # The default formatter shows local variables, and with them tokens and passwords.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_BEFORE,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These libraries log routine work at info.
    for name in ("asyncio", "httpx", "httpcore", "websockets", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_BEFORE,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger named `name`. Log an event with fields: `log.info("feed.live", feed=..., symbols=...)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
