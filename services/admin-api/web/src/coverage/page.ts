/** The coverage page: gaps and their repair. */

import { complaint, getGaps, getSymbols, postAudit, postRepair } from "../api.ts";
import { button, h, setAttribute, setText } from "../dom.ts";
import { type Gap, keyOf, progressOf, titleOf } from "../gap.ts";
import { Notice } from "../notice.ts";
import type { GapsBody } from "../openapi.ts";
import type { Page } from "../page.ts";
import { poll } from "../polling.ts";
import { chartHash } from "../route.ts";
import { Table } from "../table.ts";
import { duration, seconds, shown, shownToSecond } from "../times.ts";
import { type Timeframe, TIMEFRAMES } from "../timeframes.ts";
import { Strips } from "./strips.ts";

const EVERY_MILLISECONDS = 2_000;
const ROWS_SHOWN = 40;
const GAPS_SHOWN = 200;
const SPANS = [
  ["1 h", 3_600],
  ["6 h", 21_600],
  ["24 h", 86_400],
  ["7 d", 604_800],
  ["30 d", 2_592_000],
  ["1 y", 31_536_000],
] as const;
const LEGEND = [
  [{ "data-state": "waiting" }, "waiting"],
  [{ "data-state": "requested" }, "requested"],
  [{ "data-state": "unfillable" }, "unfillable: retried hourly"],
  [{ "data-state": "waiting", "data-incomplete": "" }, "incomplete"],
] as const;
const STATES: Record<string, "bad" | "warn" | "unknown"> = { waiting: "warn", requested: "warn", unfillable: "bad" };

export class CoveragePage implements Page {
  readonly #closed = new AbortController();
  readonly #summary = h("p", { class: "verdict", id: "coverage", role: "status" }, "Loading");
  readonly #notice = new Notice();
  readonly #bar = h("progress", { "aria-label": "Candles of all gaps that are filled" });
  readonly #filled = h("span");
  readonly #progress = h("p", { class: "progress", id: "progress", hidden: "" }, this.#bar, this.#filled);
  readonly #strips = new Strips((gap) => void this.#repair(gap));
  readonly #audit = h("p", { class: "hint", id: "audit" });
  readonly #auditNow = button("Audit now", () => void this.#requestAudit(), { id: "audit-now", class: "quiet", title: "Search the store for gaps now" });
  readonly #more = h("p", { class: "hint" });
  readonly #table = new Table<Gap>(
    "Gaps, the newest first",
    [
      { label: "Symbol", text: (gap) => gap.symbol, link: (gap) => chartHash(gap.symbol, gap.timeframe) },
      { label: "Timeframe", text: (gap) => gap.timeframe },
      { label: "From", text: (gap) => shown(gap.from), whole: true },
      { label: "To", text: (gap) => shown(gap.to), whole: true },
      { label: "Length", text: (gap) => duration(seconds(gap.to) - seconds(gap.from)), numeric: true },
      { label: "What", text: (gap) => (gap.incomplete ? "incomplete" : "missing") },
      { label: "State", text: (gap) => progressOf(gap), mark: (gap) => STATES[gap.state] ?? "unknown" },
      { label: "Next attempt", text: (gap) => (gap.next_at === null ? "-" : shownToSecond(gap.next_at)) },
      {
        label: "Repair",
        action: (gap) => ({
          label: this.#requesting.has(keyOf(gap)) ? "Requesting" : "Repair",
          description: `Repair ${titleOf(gap)}`,
          enabled: !this.#requesting.has(keyOf(gap)),
          run: () => void this.#repair(gap),
        }),
      },
    ],
    keyOf,
    "No gap in this timeframe.",
  );
  readonly #moreGaps = h("p", { class: "hint" });
  readonly #timeframeButtons = ["all", ...TIMEFRAMES].map((choice) => button(choice, () => this.#choose(choice as Timeframe | "all"), { "data-timeframe": choice }));
  readonly #spanButtons = SPANS.map(([label, length]) => button(label, () => this.#showSpan(length), { "data-span": String(length) }));
  readonly element = h(
    "div",
    { class: "page" },
    h("h1", {}, "Coverage"),
    this.#summary,
    this.#progress,
    h("p", { class: "hint" }, "A gap is a range whose candles are missing in the store, or incomplete. A minute without trades is no gap. Click a gap to request its candles from Kraken."),
    h(
      "div",
      { class: "controls" },
      h("div", { class: "choices", role: "group", "aria-label": "Timeframe" }, ...this.#timeframeButtons),
      h("div", { class: "choices", role: "group", "aria-label": "Time shown" }, ...this.#spanButtons),
    ),
    h("div", { class: "controls" }, this.#audit, this.#auditNow),
    this.#notice.element,
    h("section", { class: "card" }, h("h2", {}, "Gaps over time"), this.#strips.element, this.#more),
    h("ul", { class: "legend", "aria-label": "Legend" }, ...LEGEND.map(([state, text]) => h("li", {}, h("i", { class: "gap", ...state }), text))),
    h("section", { class: "card" }, h("h2", {}, "Gaps"), this.#table.element, this.#moreGaps),
  );
  readonly #requesting = new Set<string>();
  #timeframe: Timeframe | "all" = "1m";
  #length: number = 21_600;
  #symbols: readonly string[] = [];
  #found: Pick<GapsBody, "gaps" | "total" | "filled_since_start"> = { gaps: [], total: { gaps: 0, windows: 0, filled: 0 }, filled_since_start: 0 };
  #before: number | null = null;

  constructor() {
    this.#draw();
    void poll(EVERY_MILLISECONDS, this.#closed.signal, () => this.#refresh());
  }

  show(): void {
    // There is only one state.
  }

  close(): void {
    this.#closed.abort();
  }

  async #refresh(): Promise<void> {
    const signal = this.#closed.signal;
    try {
      const [found, symbols] = await Promise.all([getGaps(signal), getSymbols(signal)]);
      this.#found = found;
      this.#showAudit(found);
      this.#symbols = symbols.map((entry) => entry.symbol);
      this.#summarise();
      this.#draw();
    } catch (error) {
      if (signal.aborted) return;
      setText(this.#summary, complaint(error));
      setAttribute(this.#summary, "data-mark", "bad");
    }
  }

  #summarise(): void {
    const { gaps, total } = this.#found;
    const open = gaps.filter((gap) => gap.state !== "unfillable");
    const given = gaps.length - open.length;
    const unlisted = total.gaps - gaps.length;
    const unfillable = (given > 0 ? `, ${given} that Kraken does not fill` : "") + (unlisted > 0 ? `, and ${unlisted} more that are not listed` : "");
    const symbols = new Set(open.map((gap) => gap.symbol)).size;
    setText(
      this.#summary,
      open.length === 0
        ? `No gap to repair in ${this.#symbols.length} symbols${unfillable}`
        : `${counted(open.length, "gap")} in ${symbols} of ${counted(this.#symbols.length, "symbol")}${unfillable}`,
    );
    setAttribute(this.#summary, "data-mark", total.gaps === 0 ? "good" : "warn");
    // A filled gap leaves the list together with its count, so count filled candles since the list was empty.
    const filled = this.#found.filled_since_start;
    if (total.windows === 0 || this.#before === null || this.#before > filled) this.#before = filled - total.filled;
    const done = filled - this.#before;
    const all = done + total.windows - total.filled;
    this.#progress.hidden = total.windows === 0;
    this.#bar.max = Math.max(all, 1);
    this.#bar.value = done;
    setText(this.#filled, `${done} of ${counted(all, "candle")} filled`);
  }

  #showAudit({ audit, filled_since_start: filled, requests_waiting: waiting }: GapsBody): void {
    const last = audit.last_at === null ? "No audit yet" : `Last audit at ${shownToSecond(audit.last_at)}`;
    const problem = audit.trouble === null ? "" : ` The last audit failed: ${audit.trouble}.`;
    const manual = waiting === 0 ? "" : ` Manual requests waiting: ${counted(waiting, "range")}.`;
    setText(
      this.#audit,
      `${last}; the store is audited every ${duration(audit.every_seconds)}, ${duration(audit.horizon_seconds)} back, and gaps are requested from Kraken. ` +
        `${counted(filled, "candle")} filled since the start.${manual}${problem}`,
    );
  }

  #choose(timeframe: Timeframe | "all"): void {
    this.#timeframe = timeframe;
    this.#draw();
  }

  #showSpan(length: number): void {
    this.#length = length;
    this.#draw();
  }

  #draw(): void {
    const wanted = this.#found.gaps.filter((gap) => this.#timeframe === "all" || gap.timeframe === this.#timeframe);
    for (const element of this.#timeframeButtons) {
      const choice = element.dataset["timeframe"] ?? "";
      const count = this.#found.gaps.filter((gap) => choice === "all" || gap.timeframe === choice).length;
      setText(element, count > 0 ? `${choice} (${count})` : choice);
      setAttribute(element, "aria-pressed", String(choice === this.#timeframe));
    }
    for (const element of this.#spanButtons) setAttribute(element, "aria-pressed", String(element.dataset["span"] === String(this.#length)));
    // Move the strips in steps of a hundredth, so that a bar stays under the pointer.
    const step = Math.max(60, this.#length / 100);
    const to = Math.ceil(Date.now() / 1000 / step) * step;
    const withGaps = new Set(wanted.map((gap) => gap.symbol));
    const names = [...new Set([...this.#symbols, ...withGaps])].sort((a, b) => Number(withGaps.has(b)) - Number(withGaps.has(a)) || a.localeCompare(b));
    const timeframes = this.#timeframe === "all" ? TIMEFRAMES : [this.#timeframe];
    this.#strips.show(names.slice(0, ROWS_SHOWN), timeframes, wanted, { from: to - this.#length, to });
    const more = names.length - ROWS_SHOWN;
    setText(this.#more, more > 0 ? `and ${more} more symbols, ${withGaps.size > ROWS_SHOWN ? "some with gaps" : "all without a gap"}` : "");
    const newest = [...wanted].sort((a, b) => seconds(b.from) - seconds(a.from) || a.symbol.localeCompare(b.symbol));
    this.#table.show(newest.slice(0, GAPS_SHOWN));
    setText(this.#moreGaps, newest.length > GAPS_SHOWN ? `and ${newest.length - GAPS_SHOWN} more` : "");
  }

  async #repair(gap: Gap): Promise<void> {
    const key = keyOf(gap);
    if (this.#requesting.has(key)) return;
    this.#requesting.add(key);
    this.#draw();
    await this.#notice.change(titleOf(gap), `Requested ${titleOf(gap)}`, (token) => postRepair(gap, token));
    this.#requesting.delete(key);
    this.#draw();
  }

  async #requestAudit(): Promise<void> {
    await this.#notice.change("Audit", "Requested an audit", postAudit);
  }
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
