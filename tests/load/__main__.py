"""`make load`: the four services, their broker and their store under the load of all of Kraken.

Prints the latencies of candles to bus and store, the CPU and memory of each part, and the comparison with the truth.
The exit code is 1 if a candle is missing or wrong.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from chaos.clocks import Clocks
from chaos.kraken import Kraken
from load.compare import compare
from load.observer import Observer
from load.processes import SERVICES, Shape, Stack
from load.readiness import ready, recovery
from load.report import histogram_quantile, latencies, troubles, usages

_SETTLE_SECONDS = 30
_RECOVERY_SECONDS = 120


def main() -> int:
    """Run with the options of the command line."""
    parser = argparse.ArgumentParser(prog="make load", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1449, help="pairs that trade")
    parser.add_argument("--rate", type=float, default=500, help="ticks a second over all pairs")
    parser.add_argument("--burst", type=float, default=0, help="ticks a second for a minute in the middle; 0 for none")
    parser.add_argument("--minutes", type=float, default=10, help="how long it is measured, once everything is seeded")
    parser.add_argument("--seed", type=int, default=1, help="seed of the markets")
    parser.add_argument("--start", type=float, default=180, help="seconds that the start may take")
    parser.add_argument("--kill", action="store_true", help="SIGKILL each service, the broker and InfluxDB once")
    parser.add_argument("--timeframes", default="1m,5m", help="what the observer follows")
    parser.add_argument(
        "--at",
        type=datetime.fromisoformat,
        help="what all clocks but InfluxDB's show at the start, in UTC, such as 2026-11-25T23:57 before a week's end; "
        "of the past, because with one of the future InfluxDB's tasks count as late",
    )
    parser.add_argument("--folder", type=Path, help="where logs and data go (default: a temporary folder)")
    for name in SERVICES:
        if name != "admin-api":
            parser.add_argument(f"--{name}", type=int, default=1, help="how many of them")
    options = parser.parse_args()
    counts = {name: getattr(options, name.replace("-", "_"), 1) for name in SERVICES}
    folder = options.folder or Path(tempfile.mkdtemp(prefix="load-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs and data: {folder}", flush=True)
    if options.at is not None and "CHAOS_CLOCK" not in os.environ:
        _restart_at(options.at.replace(tzinfo=UTC).timestamp(), folder)
    stack = Stack(folder, Shape(options.pairs, options.rate, options.seed, counts))
    try:
        stack.start()
        return asyncio.run(_run(stack, options, folder))
    finally:
        stack.stop()
        logs = [line for part in stack.services for line in (folder / f"{part.name}.log").read_text().splitlines()]
        print("\n".join(["", "log events of warning and above:", *troubles(logs)]), flush=True)


def _restart_at(instant: float, folder: Path) -> None:
    """Replace this process by one whose clock, and whose children's, shows `instant` (unix seconds) now."""
    clocks = Clocks(folder / "clock", ("all",))
    clocks.set("all", round(instant - time.time()))
    settings = {**os.environ, **clocks.environment("all")}
    arguments = [*sys.argv[1:], "--folder", str(folder)]
    os.execve(sys.executable, [sys.executable, "-m", "load", *arguments], settings)


async def _run(stack: Stack, options: argparse.Namespace, folder: Path) -> int:
    observer = Observer(lambda: stack.broker.url, tuple(options.timeframes.split(",")))
    following = asyncio.create_task(observer.run(), name="load.observer")
    kraken = Kraken(f"http://127.0.0.1:{stack.control_port}")
    try:
        started = stack.usage()
        start = await ready(stack, options.start)
        print(start, *usages(started, stack.usage(), start.green), sep="\n", flush=True)
        observer.reset()
        # The first full window is what is measured first.
        since = time.time()
        before, at = stack.usage(), time.monotonic()
        await _measure(stack, options, kraken)
        print("\n".join(usages(before, stack.usage(), time.monotonic() - at)), flush=True)
        print("\n".join(latencies(observer.seen, options.pairs)))
        print(f"messages that the broker kept at most: {observer.seen.stored_messages}")
        print("\n".join(_stored(stack)), flush=True)
        await asyncio.sleep(_SETTLE_SECONDS)
        comparison = await compare(stack.influx.place, "load", stack.broker.url, kraken, since)
    finally:
        following.cancel()
        await kraken.close()
    print(comparison, flush=True)
    (folder / "findings.txt").write_text("\n".join(map(str, comparison.findings)))
    for finding in comparison.findings[:10]:
        print(finding)
    return 1 if comparison.findings else 0


async def _measure(stack: Stack, options: argparse.Namespace, kraken: Kraken) -> None:
    parts = [*stack.services, stack.broker, stack.influx] if options.kill else []
    began, pause = time.monotonic(), options.minutes * 60 / (len(parts) + 1)
    for number, part in enumerate(parts, 1):
        await asyncio.sleep(max(0.0, began + number * pause - time.monotonic()))
        part.kill()
        await asyncio.to_thread(part.start)
        print(f"SIGKILL of {part.name} and start: {await recovery(stack, _RECOVERY_SECONDS)}", flush=True)
    end = began + options.minutes * 60
    if options.burst:
        await asyncio.sleep(max(0.0, (end - time.monotonic()) / 3))
        print(f"burst of {options.burst:.0f} ticks/s for 60 s", flush=True)
        await kraken.set_rate(options.burst, 60)
    await asyncio.sleep(max(0.0, end - time.monotonic()))


def _stored(stack: Stack) -> list[str]:
    """The latencies of candles to the store, from the writers' metrics."""
    lines = []
    for part in stack.services:
        if not part.name.startswith("influx-writer"):
            continue
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{part.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            continue
        name = "ingress_writer_close_to_store_seconds"
        bounds = [histogram_quantile(text, name, 'way="live"', share) for share in (0.5, 0.99)]
        lines.append(f"{part.name}: window end to store within {bounds[0]} s (p50) and {bounds[1]} s (p99)")
    return lines


if __name__ == "__main__":
    sys.exit(main())
