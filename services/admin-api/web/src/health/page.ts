/** The health page: checks with their reasons, and the state that they examine. */

import type { Health } from "../api.ts";
import { h, setAttribute, setText } from "../dom.ts";
import type { Check, FeedBody, InstanceBody, OwnershipBody, SymbolHealth, TaskBody } from "../openapi.ts";
import type { Outcome, Overall } from "../overall.ts";
import type { Page } from "../page.ts";
import { chartHash } from "../route.ts";
import { Table } from "../table.ts";
import { duration, seconds, shown, shownToSecond } from "../times.ts";
import { describe, ownership } from "./details.ts";
import { Gateways } from "./gateways.ts";
import { DeadLetterTable } from "./dead_letters.ts";
import { RepairTable } from "./repair.ts";

const SYMBOLS_SHOWN = 25;

export class HealthPage implements Page {
  readonly #closed = new AbortController();
  readonly #verdict = h("p", { class: "verdict", id: "verdict", role: "status" });
  readonly #warnings = h("p", { class: "notice", id: "warnings", hidden: "" });
  readonly #asOf = h("p", { class: "hint" });
  readonly #checks = new Table<Check>(
    "Checks",
    [
      { label: "Check", text: (row) => row.name },
      { label: "State", text: (row) => (row.ok ? "ok" : "failing"), mark: (row) => (row.ok ? "good" : "bad") },
      { label: "Reason", text: (row) => row.detail },
    ],
    (row) => row.name,
    "No checks.",
  );
  readonly #instances = new Table<InstanceBody>(
    "Instances of services",
    [
      { label: "Service", text: (row) => row.service, whole: true },
      { label: "Instance", text: (row) => row.instance },
      { label: "State", text: (row) => (row.online ? "online" : "offline"), mark: (row) => (row.online ? "good" : "unknown") },
      { label: "Owns", text: (row) => ownership(row.details) },
      { label: "Last seen", text: (row) => `${duration(row.seen_seconds_ago)} ago`, numeric: true },
      { label: "Started", text: (row) => shownToSecond(row.started_at), whole: true },
      { label: "Version", text: (row) => row.version },
      { label: "Reports", text: (row) => describe(row.details) },
    ],
    (row) => `${row.service} ${row.instance}`,
    "No instance has been seen.",
  );
  readonly #gateways = new Gateways();
  readonly #feeds = new Table<FeedBody>(
    "Feeds",
    [
      { label: "Feed", text: (row) => row.feed },
      {
        label: "State",
        text: (row) => (row.state === "live" && !row.fresh ? "live, watermark late" : row.state),
        mark: (row) => (row.fresh ? "good" : "bad"),
      },
      { label: "Watermark age", text: (row) => (row.watermark_age_seconds === null ? "none yet" : duration(row.watermark_age_seconds)), numeric: true },
      { label: "Symbols", text: (row) => String(row.symbols), numeric: true },
      { label: "Since", text: (row) => shownToSecond(row.since) },
      { label: "Rejected by Kraken", text: (row) => Object.entries(row.rejected).map(([symbol, why]) => `${symbol}: ${why}`).join("; ") || "none" },
    ],
    (row) => row.feed,
    "No feeds.",
  );
  readonly #symbols = new Table<SymbolHealth>(
    "Symbols, highest lag first",
    [
      { label: "Symbol", text: (row) => row.symbol, link: (row) => chartHash(row.symbol, "1m") },
      { label: "Feed", text: (row) => (row.live ? "live" : "none"), mark: (row) => (row.live ? "good" : "bad") },
      { label: "Newest update", text: (row) => `${duration(row.age_seconds)} ago`, numeric: true },
      { label: "Closed until", text: (row) => (row.closed_until === null ? "unknown" : shown(row.closed_until)) },
      { label: "Lag", text: (row) => this.#lag(row), numeric: true },
      { label: "Gateway", text: (row) => this.#owner(row, "gateway") },
      { label: "Aggregator", text: (row) => this.#owner(row, "aggregator") },
      { label: "Further owners", text: (row) => this.#owners.get(row.symbol)?.also.join(", ") || "-" },
    ],
    (row) => row.symbol,
    "No symbols.",
  );
  readonly #moreSymbols = h("p", { class: "hint" });
  readonly #repair = new RepairTable();
  readonly #tasks = new Table<TaskBody>(
    "Tasks of the store",
    [
      { label: "Task", text: (row) => row.task },
      { label: "State", text: (row) => row.trouble ?? "on time", mark: (row) => (row.trouble === null ? "good" : "bad") },
      { label: "Every", text: (row) => duration(row.every_seconds), numeric: true },
      { label: "Last run", text: (row) => (row.last_run === null ? "none yet" : shownToSecond(row.last_run)) },
    ],
    (row) => row.task,
    "The store has no tasks; the embedded store needs none.",
  );
  readonly #deadLetters = new DeadLetterTable(this.#closed.signal);
  readonly element = h(
    "div",
    { class: "page" },
    h("h1", {}, "Health"),
    this.#verdict,
    this.#warnings,
    this.#asOf,
    section("Checks", this.#checks.element),
    section("Services", this.#instances.element),
    section("Kraken", this.#gateways.element),
    section("Feeds", this.#feeds.element),
    section("Symbols", this.#symbols.element, this.#moreSymbols),
    section("Repair", this.#repair.element),
    section("Tasks", this.#tasks.element),
    section("Dead letters", this.#deadLetters.element),
  );
  #now = 0;
  #owners: ReadonlyMap<string, OwnershipBody> = new Map();

  constructor(overall: Overall) {
    setText(this.#verdict, "Loading");
    overall.listen(this.#closed.signal, (outcome) => this.#showOutcome(outcome));
  }

  show(): void {
    // There is only one state.
  }

  close(): void {
    this.#closed.abort();
  }

  #showOutcome(outcome: Outcome): void {
    if ("error" in outcome) {
      setText(this.#verdict, `${outcome.error}; the data below is old`);
      setAttribute(this.#verdict, "data-mark", "bad");
      return;
    }
    const health = outcome.health;
    const failing = health.checks.filter((check) => !check.ok);
    const well = health.status === "ok";
    setText(this.#verdict, well ? "All checks pass" : `Failing: ${failing.map((check) => check.name).join(", ")}`);
    setAttribute(this.#verdict, "data-mark", well ? "good" : "bad");
    setText(this.#asOf, `As of ${shownToSecond(health.at)}`);
    setText(this.#warnings, health.warnings.join(". "));
    this.#warnings.hidden = health.warnings.length === 0;
    this.#fill(health);
  }

  #fill(health: Health): void {
    this.#now = seconds(health.at);
    this.#owners = new Map(health.ownership.map((entry) => [entry.symbol, entry]));
    this.#checks.show([...health.checks].sort((a, b) => Number(a.ok) - Number(b.ok)));
    this.#instances.show(health.instances);
    this.#gateways.show(health.instances);
    this.#feeds.show(health.feeds);
    const behind = [...health.symbols].sort((a, b) => Number(a.live) - Number(b.live) || seconds(a.closed_until ?? a.at) - seconds(b.closed_until ?? b.at) || a.symbol.localeCompare(b.symbol));
    this.#symbols.show(behind.slice(0, SYMBOLS_SHOWN));
    const more = behind.length - SYMBOLS_SHOWN;
    setText(this.#moreSymbols, more > 0 ? `and ${more} more with less lag` : "");
    this.#repair.show(health);
    this.#tasks.show(health.tasks);
    this.#deadLetters.showCounts(health.dead_letters);
  }

  /** Time since the end of the newest closed minute; up to a minute is normal. */
  #lag(row: SymbolHealth): string {
    return row.closed_until === null ? "unknown" : duration(this.#now - seconds(row.closed_until));
  }

  /** The owner of the symbol, and for how long. */
  #owner(row: SymbolHealth, role: "gateway" | "aggregator"): string {
    const entry = this.#owners.get(row.symbol);
    const name = entry?.[role];
    const since = entry?.[`${role}_since`];
    if (!name) return "-";
    return since ? `${name} for ${duration(this.#now - seconds(since))}` : name;
  }
}

function section(title: string, ...content: readonly Node[]): HTMLElement {
  return h("section", { class: "card", "data-section": title }, h("h2", {}, title), ...content);
}
