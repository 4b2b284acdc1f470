/** The chart page: any symbol and timeframe, live. */

import { complaint, getCandles, getGapsOf, getSymbols } from "../api.ts";
import { bandOf, type Candle } from "../candle.ts";
import { button, h, setAttribute, setText } from "../dom.ts";
import { Live, type LiveState } from "../live.ts";
import type { SymbolBody } from "../openapi.ts";
import type { Page } from "../page.ts";
import { pause, poll } from "../polling.ts";
import { chartHash, type Route } from "../route.ts";
import { type Change, Series } from "../series.ts";
import { onTheme } from "../theme.ts";
import { seconds } from "../times.ts";
import { isTimeframe, SECONDS, type Timeframe, TIMEFRAMES } from "../timeframes.ts";
import { Picker } from "./picker.ts";
import { Readout } from "./readout.ts";
import { ChartView } from "./view.ts";

const AT_ONCE = 500;
const SYMBOLS_MILLISECONDS = 15_000;
const GAPS_MILLISECONDS = 5_000;
const RETRY_MILLISECONDS = 2_000;
const LAST_TIMEFRAME = "timeframe";
const LAST_SYMBOL = "symbol";
const FIRST_SYMBOL = "BTC/USD";

const STATES: Record<LiveState | "loading", { readonly mark: string; readonly meaning: string }> = {
  loading: { mark: "unknown", meaning: "waiting for the first candles" },
  live: { mark: "good", meaning: "every change is shown as it happens" },
  polling: { mark: "warn", meaning: "no event stream is available; the page polls the API every 2 seconds" },
  reconnecting: { mark: "bad", meaning: "admin-api does not answer; the candles shown may be old" },
};

const LEGEND = [
  ["up", "up"],
  ["down", "down"],
  ["forming", "forming"],
  ["infilled", "infilled: no trades"],
  ["incomplete", "incomplete"],
  ["gap", "gap: missing"],
] as const;

/** The shown symbol and timeframe, with their requests and live updates. */
interface Sight {
  readonly symbol: string;
  readonly timeframe: Timeframe;
  readonly series: Series;
  readonly stop: AbortController;
  live: Live | null;
  loadingOlder: boolean;
  exhausted: boolean;
}

export class ChartPage implements Page {
  readonly #closed = new AbortController();
  readonly #canvas = h("div", { class: "canvas", id: "chart", tabindex: "0", role: "application", "aria-roledescription": "candlestick chart" });
  readonly #notice = h("p", { class: "notice", role: "status", hidden: "" });
  readonly #state = h("span", { class: "badge", id: "live", role: "status" });
  readonly #spoken = h("p", { class: "hidden", "aria-live": "polite" });
  readonly #readout = new Readout();
  readonly #picker = new Picker((symbol) => this.#go(symbol, this.#sight?.timeframe ?? "1m"));
  readonly #buttons = TIMEFRAMES.map((timeframe) =>
    button(timeframe, () => this.#go(this.#sight?.symbol ?? FIRST_SYMBOL, timeframe), { "data-timeframe": timeframe }),
  );
  readonly element = h(
    "div",
    { class: "page chart" },
    h("h1", { class: "hidden" }, "Chart"),
    h(
      "div",
      { class: "controls" },
      this.#picker.element,
      h("div", { class: "choices", role: "group", "aria-label": "Timeframe" }, ...this.#buttons),
      this.#state,
      button("Newest", () => this.#unpoint(true), { class: "quiet", title: "Back to the newest candle (End)" }),
    ),
    this.#readout.element,
    h("div", { class: "stage" }, this.#canvas, this.#notice),
    h("ul", { class: "legend", "aria-label": "Legend" }, ...LEGEND.map(([kind, text]) => h("li", {}, h("i", { class: `swatch ${kind}` }), text))),
    h("p", { class: "hint" }, "Keys: / finds a symbol; on the chart, arrows step from candle to candle, + and - zoom, Home and End jump, Escape clears the selection."),
    this.#spoken,
  );
  readonly #view: ChartView;
  #sight: Sight | null = null;
  /** The windows selected by keyboard and pointer: open times, unix seconds. */
  #pointed: number | null = null;
  #hovered: number | null = null;

  constructor() {
    this.#view = new ChartView(this.#canvas, {
      hover: (time) => {
        this.#hovered = time;
        this.#showState();
      },
      nearStart: () => void this.#loadOlder(),
    });
    onTheme(this.#closed.signal, () => this.#view.paint());
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("pointermove", () => (this.#pointed = null));
    document.addEventListener("keydown", (event) => this.#shortcut(event), { signal: this.#closed.signal });
    void poll(SYMBOLS_MILLISECONDS, this.#closed.signal, async () => void (await this.#refreshSymbols()));
  }

  show(route: Route): void {
    if (route.page !== "chart") return;
    const stored = localStorage.getItem(LAST_TIMEFRAME) ?? "";
    const timeframe = route.timeframe ?? (isTimeframe(stored) ? stored : "1m");
    const symbol = route.symbol ?? localStorage.getItem(LAST_SYMBOL);
    if (symbol !== null) this.#begin(symbol, timeframe);
    else void this.#beginWithAny(timeframe);
  }

  close(): void {
    this.#closed.abort();
    this.#leave();
    this.#view.close();
  }

  async #beginWithAny(timeframe: Timeframe): Promise<void> {
    const signal = this.#closed.signal;
    this.#setState("loading");
    while (!signal.aborted && this.#sight === null) {
      const entries = await this.#refreshSymbols();
      const first = entries.find(({ symbol }) => symbol === FIRST_SYMBOL) ?? entries.find(({ live }) => live) ?? entries[0];
      if (first !== undefined) this.#begin(first.symbol, timeframe);
      else await pause(RETRY_MILLISECONDS, signal);
    }
  }

  async #refreshSymbols(): Promise<readonly SymbolBody[]> {
    try {
      const entries = await getSymbols(this.#closed.signal);
      this.#picker.setEntries(entries);
      if (entries.length === 0) this.#showText("No symbol is known yet. The first candles arrive within seconds after the start.");
      return entries;
    } catch (error) {
      if (!this.#closed.signal.aborted && this.#sight === null) this.#showText(`${complaint(error)}; retrying`);
      return [];
    }
  }

  #go(symbol: string, timeframe: Timeframe): void {
    location.hash = chartHash(symbol, timeframe);
  }

  #begin(symbol: string, timeframe: Timeframe): void {
    if (this.#sight?.symbol === symbol && this.#sight.timeframe === timeframe) return;
    this.#leave();
    const sight: Sight = {
      symbol,
      timeframe,
      series: new Series(SECONDS[timeframe]),
      stop: new AbortController(),
      live: null,
      loadingOlder: false,
      exhausted: false,
    };
    this.#sight = sight;
    this.#pointed = this.#hovered = null;
    localStorage.setItem(LAST_TIMEFRAME, timeframe);
    this.#picker.setCurrent(symbol);
    for (const element of this.#buttons) setAttribute(element, "aria-pressed", String(element.dataset["timeframe"] === timeframe));
    document.title = `${symbol} ${timeframe} - Crypto Ingress`;
    this.#view.begin(timeframe);
    this.#describe();
    this.#readout.showNothing();
    this.#setState("loading");
    this.#showText(`Loading ${symbol} ${timeframe}`);
    void this.#load(sight);
  }

  #leave(): void {
    this.#sight?.stop.abort();
    this.#sight?.live?.close();
    this.#sight = null;
  }

  /** Load the newest candles, with retries; then follow live ones. */
  async #load(sight: Sight): Promise<void> {
    const { symbol, timeframe, stop } = sight;
    while (!stop.signal.aborted) {
      try {
        const candles = await getCandles(symbol, timeframe, AT_ONCE, stop.signal);
        if (stop.signal.aborted) return;
        this.#take(sight, candles);
        if (candles.length === 0) this.#showText(`${symbol} ${timeframe} has no candles yet.`);
        localStorage.setItem(LAST_SYMBOL, symbol);
        sight.live = new Live(symbol, timeframe, {
          candles: (news) => this.#take(sight, news),
          state: (state) => this.#setState(state),
        });
        void poll(GAPS_MILLISECONDS, stop.signal, () => this.#refreshGaps(sight));
        return;
      } catch (error) {
        if (stop.signal.aborted) return;
        this.#setState("reconnecting");
        this.#showText(`${symbol} ${timeframe}: ${complaint(error)}; retrying`);
        if (localStorage.getItem(LAST_SYMBOL) === symbol) localStorage.removeItem(LAST_SYMBOL);
        await pause(RETRY_MILLISECONDS, stop.signal);
      }
    }
  }

  #take(sight: Sight, candles: readonly Candle[]): boolean {
    if (sight !== this.#sight) return false;
    const change: Change = sight.series.merge(candles);
    if (change === "all") this.#view.setAll(sight.series.slots);
    if (change === "tail") this.#view.setTail(sight.series.slots);
    if (change !== "nothing") {
      this.#notice.hidden = true;
      this.#describe();
      this.#showState();
    }
    return change !== "nothing";
  }

  async #refreshGaps(sight: Sight): Promise<void> {
    try {
      const gaps = await getGapsOf(sight.symbol, sight.timeframe, sight.stop.signal);
      if (sight !== this.#sight || !sight.series.setGaps(gaps)) return;
      this.#view.setAll(sight.series.slots);
      this.#describe();
      this.#showState();
    } catch {
      // The live state shows the failure; the next request follows.
    }
  }

  async #loadOlder(): Promise<void> {
    const sight = this.#sight;
    const oldest = sight?.series.slots[0]?.time;
    if (sight === null || oldest === undefined || sight.loadingOlder || sight.exhausted) return;
    sight.loadingOlder = true;
    try {
      const candles = await getCandles(sight.symbol, sight.timeframe, AT_ONCE, sight.stop.signal, oldest);
      sight.exhausted = candles.length === 0;
      this.#take(sight, candles);
    } catch (error) {
      if (!sight.stop.signal.aborted) this.#showText(`Older candles: ${complaint(error)}; scroll to try again`);
    } finally {
      sight.loadingOlder = false;
    }
  }

  #key(event: KeyboardEvent): void {
    const slots = this.#sight?.series.slots ?? [];
    const at = this.#pointed === null ? slots.length : slots.findIndex((slot) => slot.time === this.#pointed);
    const moves: Record<string, () => void> = {
      ArrowLeft: () => this.#point(at - (event.shiftKey ? 10 : 1)),
      ArrowRight: () => this.#point(at + (event.shiftKey ? 10 : 1)),
      Home: () => this.#point(0),
      End: () => this.#unpoint(true),
      Escape: () => this.#unpoint(false),
      "+": () => this.#view.zoom(0.8),
      "=": () => this.#view.zoom(0.8),
      "-": () => this.#view.zoom(1.25),
    };
    const move = moves[event.key];
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move();
  }

  #shortcut(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLInputElement || document.querySelector("dialog[open]") !== null;
    if (event.key !== "/" || typing) return;
    event.preventDefault();
    this.#picker.focus();
  }

  #point(index: number): void {
    const slots = this.#sight?.series.slots ?? [];
    if (slots.length === 0) return;
    const within = Math.min(Math.max(index, 0), slots.length - 1);
    this.#pointed = slots[within]?.time ?? null;
    this.#view.point(within);
    this.#showState();
    setText(this.#spoken, this.#readout.sentence());
  }

  #unpoint(newest: boolean): void {
    this.#pointed = this.#hovered = null;
    this.#view.point(null);
    if (newest) this.#view.toNewest();
    this.#showState();
  }

  /** Show the numbers of the selected candle, else of the newest. */
  #showState(): void {
    const series = this.#sight?.series;
    if (series === undefined || series.last === null) return;
    const time = this.#pointed ?? this.#hovered;
    const slot = time === null ? undefined : series.slots.find((slot) => slot.time === time);
    if (slot === undefined) this.#readout.show(series.last, series.gapAt(seconds(series.last.open_time)));
    else if (slot.candle === null) this.#readout.showGap(slot.time, slot.gap);
    else this.#readout.show(slot.candle, slot.gap);
  }

  #setState(state: LiveState | "loading"): void {
    const { mark, meaning } = STATES[state];
    setText(this.#state, state);
    setAttribute(this.#state, "title", meaning);
    setAttribute(this.#state, "data-mark", mark);
    setAttribute(this.#state, "data-state", state);
  }

  #showText(text: string): void {
    setText(this.#notice, text);
    this.#notice.hidden = false;
  }

  #describe(): void {
    const { symbol, timeframe, series } = this.#sight ?? {};
    const { first, last } = series ?? {};
    const range = first && last ? `, ${series?.slots.length} windows from ${first.open_time} to ${last.open_time}` : "";
    setAttribute(this.#canvas, "aria-label", `Candles of ${symbol} ${timeframe}${range}`);
    setAttribute(this.#canvas, "data-windows", String(series?.slots.length ?? 0));
    setAttribute(this.#canvas, "data-gaps", String(series?.slots.filter((slot) => bandOf(slot.candle, slot.gap) === "gap").length ?? 0));
  }
}
