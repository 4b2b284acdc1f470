/** The repair of the store: a line each for audit, gaps and self-check, and the differences found. */

import type { Health } from "../api.ts";
import { h } from "../dom.ts";
import type { MinuteDifference } from "../openapi.ts";
import { type Mark, Table } from "../table.ts";
import { duration, seconds, shown, shownToSecond } from "../times.ts";

const SHOWN = 10;

interface Line {
  readonly name: string;
  readonly mark: Mark;
  readonly state: string;
  readonly text: string;
}

export class RepairTable {
  readonly #lines = new Table<Line>(
    "Audit, gaps and self-check",
    [
      { label: "Part", text: (row) => row.name },
      { label: "State", text: (row) => row.state, mark: (row) => row.mark },
      { label: "Details", text: (row) => row.text },
    ],
    (row) => row.name,
    "No data yet.",
  );
  readonly #differences = new Table<MinuteDifference>(
    "Stored minutes that differed from Kraken's, newest first",
    [
      { label: "Symbol", text: (row) => row.symbol },
      { label: "Minute", text: (row) => shown(row.open_time), whole: true },
      { label: "Kind", text: (row) => row.kind },
      { label: "Difference", text: (row) => row.what },
      { label: "Found", text: (row) => shownToSecond(row.at), whole: true },
      { label: "State", text: ended, mark: (row) => (row.ended === null ? "bad" : "good") },
    ],
    (row) => `${row.symbol} ${row.open_time} ${row.at}`,
    "No differences since the start.",
  );
  readonly element = h("div", {}, this.#lines.element, h("h3", {}, "Differences that the self-check found"), this.#differences.element);

  show(health: Health): void {
    this.#lines.show([auditLine(health), gapsLine(health), selfCheckLine(health)]);
    this.#differences.show(health.self_check.differences.slice(0, SHOWN));
  }
}

/** The time and the result of the last audit. */
export function auditLine({ audit }: Pick<Health, "audit">): Line {
  const period = `every ${duration(audit.every_seconds)}, ${duration(audit.horizon_seconds)} back`;
  const last = audit.last_at === null ? "not yet" : `last at ${shownToSecond(audit.last_at)}`;
  const problem = audit.trouble === null ? "" : `; ${audit.trouble}`;
  return { name: "audit", mark: problem === "" ? "good" : "bad", state: problem === "" ? "ok" : "failing", text: `${last}, ${period}${problem}` };
}

/** The number of gaps by state; the coverage page lists them. */
export function gapsLine({ gaps }: Pick<Health, "gaps">): Line {
  const open = gaps.waiting + gaps.requested + gaps.unfillable;
  const filled = `${gaps.filled_since_start} candles filled since the start`;
  if (open === 0) return { name: "gaps", mark: "good", state: "none", text: filled };
  const parts = `${gaps.waiting} waiting, ${gaps.requested} requested, ${gaps.unfillable} unfillable; ${gaps.windows_missing} candles missing`;
  return { name: "gaps", mark: "warn", state: `${open} open`, text: `${parts}; ${filled}` };
}

/** The number of stored minutes compared with Kraken's response. */
export function selfCheckLine({ self_check: check }: Pick<Health, "self_check">): Line {
  const last = check.last_at === null ? "none yet" : `last at ${shownToSecond(check.last_at)}`;
  const repaired = check.differences.filter((difference) => difference.ended === "repaired").length;
  const text = `${check.checks} checks of ${check.candles} candles, ${last}; ${repaired} of the last differences repaired, ${check.unanswered} checks unanswered`;
  const state = check.open === 0 ? "equal" : `${check.open} differ`;
  return { name: "self-check", mark: check.open === 0 ? "good" : "bad", state, text };
}

function ended(row: MinuteDifference): string {
  if (row.ended === null || row.ended_at === null) return "open";
  return `${row.ended.replaceAll("-", " ")} after ${duration(seconds(row.ended_at) - seconds(row.at))}`;
}
