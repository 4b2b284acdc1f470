"""The tables of a load run."""

from collections.abc import Iterable, Mapping, Sequence

from load.observer import Seen
from load.processes import Usage

_BOUNDS = {"1m": 1.5, "5m": 3.0, "15m": 3.0, "1h": 3.0, "4h": 3.0, "1d": 3.0, "1w": 3.0}


def quantile(values: Iterable[float], share: float) -> float:
    """The quantile `share` of some values; nan without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def latencies(seen: Seen, pairs: int) -> list[str]:
    """One line per timeframe: the delay of a window's last candle on the bus after its end."""
    lines = []
    for timeframe, windows in seen.closed.items():
        lasts = [max(delays.values()) for delays in windows.values()]
        missing = sum(pairs - len(delays) for delays in windows.values())
        lines.append(
            f"{timeframe:>4}: {len(windows)} windows; last candle published after {quantile(lasts, 0.5):.2f} s "
            f"(median), {max(lasts):.2f} s (slowest), at most {_BOUNDS[timeframe]} s; {missing} not seen in time"
        )
    for what, ages in (
        ("tick to raw topic", seen.raw),
        ("tick to forming candle", seen.forming),
        ("tick to forming candle, first 2 s of a minute", seen.forming_at_first),
    ):
        p50, p99 = (quantile(ages, share) * 1000 for share in (0.5, 0.99))
        lines.append(f"{what}: {p50:.0f} ms (p50), {p99:.0f} ms (p99), {len(ages)} seen")
    return lines


def usages(before: Mapping[str, Usage], after: Mapping[str, Usage], seconds: float) -> list[str]:
    """One line per part: cores and memory between two readings `seconds` apart."""
    lines = []
    total = 0.0
    for name, usage in after.items():
        cores = (usage.cpu - before[name].cpu) / seconds
        if name not in ("mosquitto", "influxd", "simulator"):
            total += cores
        lines.append(f"{name:<18} {cores:5.2f} cores, {usage.memory:6.0f} MiB now, {usage.peak:6.0f} MiB at most")
    lines.append(f"{'the services':<18} {total:5.2f} cores together")
    return lines


def histogram_quantile(text: str, name: str, labels: str, share: float) -> float:
    """The upper bound of the bucket that holds `share` of a Prometheus histogram's observations; nan without any."""
    buckets: list[tuple[float, float]] = []
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket{{") and labels in line:
            bound = line.split('le="')[1].split('"')[0]
            buckets.append((float(bound), float(line.rsplit(" ", 1)[1])))
    buckets.sort()
    if not buckets or not buckets[-1][1]:
        return float("nan")
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


def troubles(logs: Sequence[str]) -> list[str]:
    """The warnings and errors in the services' logs, with the number of each kind."""
    counts: dict[str, int] = {}
    for line in logs:
        for level in ("[warning", "[error", "[critical", "Traceback"):
            if level in line:
                event = line.split("]", 1)[-1].strip().split(" ")[0] if "]" in line else line.strip()
                counts[event] = counts.get(event, 0) + 1
    return [f"{count:6d} {event}" for event, count in sorted(counts.items(), key=lambda item: -item[1])]
