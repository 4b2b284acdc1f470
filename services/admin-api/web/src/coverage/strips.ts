/** Gaps over time: a row per symbol with a strip per timeframe, on one time axis. */

import { button, h, setAttribute } from "../dom.ts";
import { type Gap, keyOf, titleOf } from "../gap.ts";
import { chartHash } from "../route.ts";
import { seconds, shown, ticks } from "../times.ts";
import type { Timeframe } from "../timeframes.ts";

/** The shown range, unix seconds. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export class Strips {
  readonly element = h("div", { class: "strips" });
  #shown = "";

  constructor(private readonly repair: (gap: Gap) => void) {}

  /** Redraw if something changed; the focus stays. */
  show(symbols: readonly string[], timeframes: readonly Timeframe[], gaps: readonly Gap[], span: Span): void {
    const state = JSON.stringify([symbols, timeframes, gaps, span]);
    if (state === this.#shown) return;
    this.#shown = state;
    const focused = document.activeElement instanceof HTMLElement && this.element.contains(document.activeElement) ? document.activeElement.dataset["key"] : undefined;
    const rows = symbols.map((symbol) => this.#row(symbol, timeframes, gaps.filter((gap) => gap.symbol === symbol), span));
    this.element.replaceChildren(...(rows.length > 0 ? [axis(span)] : []), ...rows);
    if (focused !== undefined) this.element.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(symbol: string, timeframes: readonly Timeframe[], gaps: readonly Gap[], span: Span): HTMLElement {
    const lanes = timeframes.map((timeframe) =>
      h("div", { class: "lane", "data-timeframe": timeframe }, ...gaps.filter((gap) => gap.timeframe === timeframe).flatMap((gap) => this.#bar(gap, span))),
    );
    const link = h("a", { href: chartHash(symbol, timeframes[0] ?? "1m") }, symbol);
    return h("div", { class: "strip", "data-symbol": symbol }, link, h("div", { class: "lanes" }, ...lanes));
  }

  #bar(gap: Gap, span: Span): HTMLElement[] {
    const from = Math.max(seconds(gap.from), span.from);
    const to = Math.min(seconds(gap.to), span.to);
    if (from >= to) return [];
    const bar = button("", () => this.repair(gap), { class: "gap", "data-state": gap.state, ...(gap.incomplete ? { "data-incomplete": "" } : {}), "data-key": keyOf(gap), title: titleOf(gap), "aria-label": `Repair ${titleOf(gap)}` });
    const share = (time: number): number => ((time - span.from) / (span.to - span.from)) * 100;
    // The security policy permits styles set by a script, and refuses style attributes.
    bar.style.left = `${share(from)}%`;
    bar.style.width = `${share(to) - share(from)}%`;
    if (gap.state === "unfillable") setAttribute(bar, "aria-description", "five attempts failed");
    return [bar];
  }
}

function axis(span: Span): HTMLElement {
  // A label at the very edge would overflow the box.
  const margin = (span.to - span.from) / (innerWidth < 600 ? 10 : 40);
  const marks = ticks(span.from + margin, span.to - margin, innerWidth < 600 ? 3 : 10).map(({ time, label }) => {
    const mark = h("time", { datetime: new Date(time * 1000).toISOString(), title: shown(new Date(time * 1000).toISOString()) }, label);
    mark.style.left = `${((time - span.from) / (span.to - span.from)) * 100}%`;
    return mark;
  });
  return h("div", { class: "strip axis", "aria-hidden": "true" }, h("span", {}, "UTC"), h("div", { class: "lanes" }, ...marks));
}
