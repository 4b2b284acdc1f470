/** Coverage: where data is missing, and its repair. */

import { complaint, type Gap, type Gaps, getGaps, getSymbols, postAudit, postRepair } from "../api.ts";
import { button, h, setAttribute, setText } from "../dom.ts";
import type { Page } from "../page.ts";
import { poll } from "../polling.ts";
import { chartHash } from "../route.ts";
import { Table } from "../table.ts";
import { duration, seconds, shown, shownToSecond } from "../times.ts";
import { type Timeframe, TIMEFRAMES } from "../timeframes.ts";
import { keyOf, progressOf, titleOf } from "./gaps.ts";
import { Strips } from "./strips.ts";
import { withToken } from "./token.ts";

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
const STATES: Record<string, "bad" | "warn" | "unknown"> = { waiting: "bad", asked: "warn", unfillable: "unknown" };

export class CoveragePage implements Page {
  readonly #closed = new AbortController();
  readonly #summary = h("p", { class: "verdict", id: "coverage", role: "status" }, "Asking");
  readonly #message = h("p", { class: "notice", role: "status", hidden: "" });
  readonly #strips = new Strips((gap) => void this.#repair(gap));
  readonly #audit = h("p", { class: "hint", id: "audit" });
  readonly #look = button("Look now", () => void this.#lookNow(), { id: "look-now", class: "quiet", title: "Look the store through for gaps now" });
  readonly #more = h("p", { class: "hint" });
  readonly #table = new Table<Gap>(
    "Gaps, the newest first",
    [
      { label: "Symbol", text: (gap) => gap.symbol, link: (gap) => chartHash(gap.symbol, gap.timeframe) },
      { label: "Timeframe", text: (gap) => gap.timeframe },
      { label: "From", text: (gap) => shown(gap.from), whole: true },
      { label: "To", text: (gap) => shown(gap.to), whole: true },
      { label: "Length", text: (gap) => duration(seconds(gap.to) - seconds(gap.from)), numeric: true },
      { label: "State", text: (gap) => progressOf(gap), mark: (gap) => STATES[gap.state] ?? "unknown" },
      { label: "Next try", text: (gap) => (gap.next_at === null ? "-" : shownToSecond(gap.next_at)) },
      {
        label: "Repair",
        action: (gap) => ({
          label: this.#asking.has(keyOf(gap)) ? "Asking" : "Repair",
          description: `Repair ${titleOf(gap)}`,
          enabled: !this.#asking.has(keyOf(gap)),
          run: () => void this.#repair(gap),
        }),
      },
    ],
    keyOf,
    "There is no gap of what is chosen.",
  );
  readonly #moreGaps = h("p", { class: "hint" });
  readonly #timeframeButtons = ["all", ...TIMEFRAMES].map((choice) => button(choice, () => this.#choose(choice as Timeframe | "all"), { "data-timeframe": choice }));
  readonly #spanButtons = SPANS.map(([label, length]) => button(label, () => this.#showSpan(length), { "data-span": String(length) }));
  readonly element = h(
    "div",
    { class: "page" },
    h("h1", {}, "Coverage"),
    this.#summary,
    h("p", { class: "hint" }, "A gap is time of which there is no data. A minute without trades is none. A click on a gap asks Kraken for its candles again."),
    h(
      "div",
      { class: "controls" },
      h("div", { class: "choices", role: "group", "aria-label": "Timeframe" }, ...this.#timeframeButtons),
      h("div", { class: "choices", role: "group", "aria-label": "Time shown" }, ...this.#spanButtons),
    ),
    h("div", { class: "controls" }, this.#audit, this.#look),
    this.#message,
    h("section", { class: "card" }, h("h2", {}, "Gaps over time"), this.#strips.element, this.#more),
    h("ul", { class: "legend", "aria-label": "Legend" }, ...["waiting", "asked", "unfillable"].map((state) => h("li", {}, h("i", { class: "gap", "data-state": state }), state))),
    h("section", { class: "card" }, h("h2", {}, "Gaps"), this.#table.element, this.#moreGaps),
  );
  readonly #asking = new Set<string>();
  #timeframe: Timeframe | "all" = "1m";
  #length: number = 21_600;
  #symbols: readonly string[] = [];
  #gaps: readonly Gap[] = [];
  #unlisted = 0;

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
      this.#gaps = found.gaps;
      this.#unlisted = (found.total?.gaps ?? found.gaps.length) - found.gaps.length;
      this.#tellAudit(found.audit);
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
    const open = this.#gaps.filter((gap) => gap.state !== "unfillable");
    const given = this.#gaps.length - open.length;
    const unfillable = (given > 0 ? `, ${given} that Kraken cannot fill` : "") + (this.#unlisted > 0 ? `, and ${this.#unlisted} more that are not listed` : "");
    const symbols = new Set(open.map((gap) => gap.symbol)).size;
    setText(
      this.#summary,
      open.length === 0
        ? `No gap to repair in ${this.#symbols.length} symbols${unfillable}`
        : `${open.length} gap${open.length === 1 ? "" : "s"} in ${symbols} of ${this.#symbols.length} symbols${unfillable}`,
    );
    setAttribute(this.#summary, "data-mark", open.length === 0 ? "good" : "warn");
  }

  #tellAudit(audit: Gaps["audit"]): void {
    this.#look.hidden = audit === undefined;
    if (audit === undefined) return;
    const last = audit.last_at === null ? "has not been looked through yet" : `was last looked through at ${shownToSecond(audit.last_at)}`;
    setText(this.#audit, `The store ${last}; that is done every ${duration(audit.every_seconds)}, and what is found is asked for by itself.`);
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
    const wanted = this.#gaps.filter((gap) => this.#timeframe === "all" || gap.timeframe === this.#timeframe);
    for (const element of this.#timeframeButtons) {
      const choice = element.dataset["timeframe"] ?? "";
      const count = this.#gaps.filter((gap) => choice === "all" || gap.timeframe === choice).length;
      setText(element, count > 0 ? `${choice} (${count})` : choice);
      setAttribute(element, "aria-pressed", String(choice === this.#timeframe));
    }
    for (const element of this.#spanButtons) setAttribute(element, "aria-pressed", String(element.dataset["span"] === String(this.#length)));
    // Steps of a hundredth, so that the strips do not move under the pointer.
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
    if (this.#asking.has(key)) return;
    this.#asking.add(key);
    this.#draw();
    await this.#change(titleOf(gap), (token) => postRepair(gap, token));
    this.#asking.delete(key);
    this.#draw();
  }

  async #lookNow(): Promise<void> {
    await this.#change("a look through the store", postAudit);
  }

  async #change(what: string, act: (token: string) => Promise<void>): Promise<void> {
    try {
      if (await withToken(act)) this.#say(`Asked for ${what}`);
    } catch (error) {
      this.#say(`${what}: ${complaint(error)}`);
    }
  }

  #say(text: string): void {
    setText(this.#message, text);
    this.#message.hidden = false;
  }
}
