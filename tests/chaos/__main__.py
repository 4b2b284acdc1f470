"""`python -m chaos`: one run, from the command line."""

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.compose import ComposeForm
from chaos.form import Form
from chaos.one_process import OneProcessForm
from chaos.report import as_json, as_lines
from chaos.run import Limits, Run
from chaos.script import Fault, ScriptError, kinds, make_script
from chaos.script import Form as FormName
from demo_stack import why_no_stack
from ingress_common.logs import configure_logging


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing missing, wrong, duplicate or invented, and every recovery in time; 1: not so; 2: wrong arguments."""
    options = _parser().parse_args(arguments)
    form = FormName(options.form)
    try:
        script = make_script(
            form,
            options.seed,
            options.faults,
            only=_names(options.only),
            target=options.target,
            every=options.every,
            without=_names(options.without),
        )
    except ScriptError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    if options.script:
        print("\n".join(map(str, script)))
        return 0
    if form is FormName.COMPOSE and (reason := why_no_stack()):
        print(f"chaos: expected Docker with Compose and the base images: {reason}", file=sys.stderr)
        return 2
    folder = Path(options.folder or tempfile.mkdtemp(prefix="chaos-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.txt").write_text("".join(f"{fault}\n" for fault in script))
    print(f"{form}, seed {options.seed}: {len(script)} faults; script, logs and report in {folder}", flush=True)
    try:
        return asyncio.run(_run(options, form, script, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


async def _run(options: argparse.Namespace, name: FormName, script: Sequence[Fault], folder: Path) -> int:
    # SIGTERM ends the run like Ctrl-C: everything is removed.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _interrupt, asyncio.current_task())
    limits = Limits(
        settle=options.settle, recovery=options.recovery, faults=options.minutes * 60 if options.minutes else None
    )
    with (folder / "run.log").open("w") as log:

        def write_line(line: str) -> None:
            print(line, flush=True)
            print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", file=log, flush=True)

        async with form_of(options, name, script, folder) as form:
            run = Run(form, script, limits, write_line)
            outcome = await run.run()
            for line in as_lines(outcome, limits):
                write_line(line)
            report = Path(options.report) if options.report else folder / "report.json"
            report.write_text(json.dumps(as_json(outcome, limits), indent=1))
            if not outcome.ok(limits):
                await form.save_logs(folder)
                write_line(f"logs are in {folder}")
            return 0 if outcome.ok(limits) else 1


def form_of(options: argparse.Namespace, name: FormName, script: Sequence[Fault], folder: Path) -> Form:
    """The form that the options select, not yet started."""
    shape = {
        "symbols": options.symbols,
        "seed": options.seed,
        "activity": options.activity,
        "connection_limit": options.connection_limit,
        "clocks": any(fault.kind == "clock" for fault in script),
    }
    if name is FormName.COMPOSE:
        return ComposeForm(f"ingress-chaos-{secrets.token_hex(4)}", folder, **shape)
    return OneProcessForm(folder, **shape)


def _interrupt(task: asyncio.Task[int] | None) -> None:
    if task is not None:
        task.cancel()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--form", choices=[str(form) for form in FormName], default="compose")
    parser.add_argument("--seed", type=int, default=1, help="of the script and of the markets")
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--symbols", type=int, default=8, help="markets, thin ones among them")
    parser.add_argument("--minutes", type=float, help="no further fault begins after so many")
    all_kinds = ", ".join(dict.fromkeys([*kinds(FormName.COMPOSE), *kinds(FormName.ONE_PROCESS)]))
    parser.add_argument("--only", help=f"kinds, with commas: {all_kinds}")
    parser.add_argument("--without", help="kinds to leave out, with commas")
    parser.add_argument("--target", help="a service, broker, influxdb or kraken-simulator")
    parser.add_argument("--every", type=_range, help="seconds from one fault to the next, such as 3..8")
    parser.add_argument("--activity", type=float, default=1.0, help="factor on the trading")
    parser.add_argument("--connection-limit", type=int, default=150, help="connections in 10 minutes before a ban")
    parser.add_argument("--settle", type=float, default=300, help="seconds after the last fault until all is right")
    parser.add_argument("--recovery", type=float, default=60, help="seconds that a recovery may take")
    parser.add_argument("--folder", help="for logs, script and report (default: a new one)")
    parser.add_argument("--report", help="file for the report as JSON (default: report.json in the folder)")
    parser.add_argument("--script", action="store_true", help="print the script and do nothing")
    return parser


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _range(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    try:
        first, last = float(low), float(high if dots else low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds such as 3..8, got {text!r}") from None
    if not 0 <= first <= last:
        raise argparse.ArgumentTypeError(f"expected seconds such as 3..8, got {text!r}")
    return first, last


if __name__ == "__main__":
    # The watcher's broken connections are expected.
    configure_logging("critical", "console")
    sys.exit(main())
