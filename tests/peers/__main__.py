"""`make peers`: runs the script, prints the scores, and writes them into docs/peers.md."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from peers import report
from peers.run import is_installed, run
from peers.script import FULL, SHORT


def main() -> int:
    """Run once and print the table. Returns 2 if the clients are not installed."""
    parser = argparse.ArgumentParser(prog="peers")
    parser.add_argument("--short", action="store_true", help="the script of three minutes, which writes no page")
    parser.add_argument("--logs", type=Path, help="keep the logs in this folder")
    options = parser.parse_args()
    if not is_installed():
        print("expected the clients in .venv-peers, run make peers-venv", file=sys.stderr)
        return 2
    script = SHORT if options.short else FULL
    folder = options.logs or Path(tempfile.mkdtemp(prefix="peers-"))
    folder.mkdir(parents=True, exist_ok=True)
    outcome = asyncio.run(run(script, folder, lambda text: print(text, flush=True)))
    print(report.examples(outcome.scores))
    print(report.table(outcome))
    if not options.short:
        report.write(outcome, script)
    return 0


sys.exit(main())
