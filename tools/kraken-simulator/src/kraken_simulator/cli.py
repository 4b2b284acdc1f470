"""The command line: reads options and environment, and runs a simulator until a signal."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from kraken_simulator.config import OPTIONS, SimulatorConfig, read_config
from kraken_simulator.errors import SimulatorError, SourceError
from kraken_simulator.simulator import Simulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator and return its exit code: 0 stopped, 1 failed, 2 wrong settings or files."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    options = {name: value for name, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    for name in OPTIONS.keys() & options.keys():
        options[name] = ",".join(options[name])
    try:
        simulator = Simulator(read_config(**options))
    except SimulatorError as error:
        return _fail(str(error), 2)
    try:
        asyncio.run(_run(simulator))
    except SourceError as error:
        return _fail(str(error), 2)
    except SimulatorError as error:
        return _fail(str(error), 1)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"kraken_simulator: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        allow_abbrev=False,
        prog="kraken_simulator",
        description="A Kraken for tests, demos and load. Every option is also an environment variable, SIM_...",
    )
    for name, field in SimulatorConfig.model_fields.items():
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        shown = "" if name in (*OPTIONS, "symbols") or field.default is None else f" (default {field.default})"
        text = f"{field.description}{shown}; SIM_{name.upper()}"
        if name in OPTIONS:
            parser.add_argument(option, dest=name, action="append", metavar="PAIR=FILE", help=text)
        else:
            parser.add_argument(option, dest=name, metavar=name.split("_")[-1].upper(), help=text)
    return parser


async def _run(simulator: Simulator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with simulator, asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(simulator.wait(), name="simulator-watcher")
        stopping = tasks.create_task(stop.wait(), name="simulator-stop")
        await asyncio.wait([watcher, stopping], return_when=asyncio.FIRST_COMPLETED)
        watcher.cancel()
        stopping.cancel()


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"kraken_simulator: {text}\n")
    return code
