/** The drawing: candles, volume, and a band behind every infilled, incomplete or missing window. */

import {
  CandlestickSeries,
  type CandlestickData,
  ColorType,
  createChart,
  CrosshairMode,
  HistogramSeries,
  type HistogramData,
  type IChartApi,
  type ISeriesApi,
  type Time,
  type UTCTimestamp,
  type WhitespaceData,
} from "lightweight-charts";

import { bandOf, decimals, kindOf } from "../candle.ts";
import type { Slot } from "../series.ts";
import { colour } from "../theme.ts";
import { rfc3339, shown } from "../times.ts";
import type { Timeframe } from "../timeframes.ts";

/** Older candles are requested once the view is this many windows from the oldest one. */
const MARGIN = 60;
/** Number of windows in the first view: all, within these limits. */
const FEWEST_SHOWN = 40;
const MOST_SHOWN = 120;

export interface ViewListener {
  /** The pointer is on the window that opens at `time` (unix seconds), or on none. */
  hover(time: number | null): void;
  /** The view is near the oldest candle. */
  nearStart(): void;
}

export class ChartView {
  readonly #chart: IChartApi;
  readonly #candles: ISeriesApi<"Candlestick">;
  readonly #volume: ISeriesApi<"Histogram">;
  readonly #bands: ISeriesApi<"Histogram">;
  #slots: readonly Slot[] = [];
  #palette = palette();

  constructor(container: HTMLElement, listener: ViewListener) {
    this.#chart = createChart(container, {
      autoSize: true,
      // The page's footer names TradingView; the logo needs a style element, which the security policy refuses.
      layout: { attributionLogo: false, background: { type: ColorType.Solid, color: "transparent" }, fontFamily: "inherit" },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { rightOffset: 4, minBarSpacing: 1 },
      localization: { locale: "en-GB", timeFormatter: (time: Time) => shown(rfc3339(Number(time))) },
    });
    this.#bands = this.#chart.addSeries(HistogramSeries, {
      priceScaleId: "bands",
      priceLineVisible: false,
      lastValueVisible: false,
      autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 1 } }),
    });
    this.#chart.priceScale("bands").applyOptions({ scaleMargins: { top: 0, bottom: 0 } });
    this.#candles = this.#chart.addSeries(CandlestickSeries, {});
    this.#volume = this.#chart.addSeries(HistogramSeries, { priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false }, 1);
    this.#chart.panes()[0]?.setStretchFactor(4);
    this.#chart.panes()[1]?.setStretchFactor(1);
    this.#chart.subscribeCrosshairMove((move) => listener.hover(move.time === undefined ? null : Number(move.time)));
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range !== null && range.from < MARGIN && this.#slots.length > 0) listener.nearStart();
    });
    this.paint();
  }

  /** Begin with another symbol or timeframe. */
  begin(timeframe: Timeframe): void {
    this.point(null);
    this.setAll([]);
    const daily = timeframe === "1d" || timeframe === "1w";
    this.#chart.applyOptions({ timeScale: { timeVisible: !daily, secondsVisible: false } });
  }

  /** Redraw everything; the view stays. */
  setAll(slots: readonly Slot[]): void {
    const first = this.#slots.length === 0;
    this.#slots = slots;
    this.#setPrecision(slots);
    this.#bands.setData(slots.map((slot) => this.#band(slot)));
    this.#candles.setData(slots.map((slot) => this.#candle(slot)));
    this.#volume.setData(slots.map((slot) => this.#bar(slot)));
    if (first && slots.length > 0) this.toNewest();
  }

  /** Redraw the last two slots. */
  setTail(slots: readonly Slot[]): void {
    const before = this.#slots.at(-1)?.time ?? 0;
    this.#slots = slots;
    for (const slot of slots.slice(-2).filter(({ time }) => time >= before)) {
      this.#bands.update(this.#band(slot));
      this.#candles.update(this.#candle(slot));
      this.#volume.update(this.#bar(slot));
    }
  }

  /** Show the newest candles. */
  toNewest(): void {
    const count = this.#slots.length;
    const shown = Math.min(Math.max(count + 1, FEWEST_SHOWN), MOST_SHOWN);
    this.#chart.timeScale().setVisibleLogicalRange({ from: count - shown, to: count + 3 });
    this.#chart.priceScale("right").applyOptions({ autoScale: true });
  }

  /** Show fewer (factor below 1) or more windows; the right edge stays. */
  zoom(factor: number): void {
    const range = this.#chart.timeScale().getVisibleLogicalRange();
    if (range === null) return;
    const width = Math.min(Math.max((range.to - range.from) * factor, 10), 2_000);
    this.#chart.timeScale().setVisibleLogicalRange({ from: range.to - width, to: range.to });
  }

  /** Move the crosshair to a slot and scroll to it; null removes the crosshair. */
  point(index: number | null): void {
    const slot = index === null ? undefined : this.#slots[index];
    if (index === null || slot === undefined) {
      this.#chart.clearCrosshairPosition();
      return;
    }
    const range = this.#chart.timeScale().getVisibleLogicalRange();
    if (range !== null && (index < range.from || index > range.to)) {
      const half = (range.to - range.from) / 2;
      this.#chart.timeScale().setVisibleLogicalRange({ from: index - half, to: index + half });
    }
    this.#chart.setCrosshairPosition(Number(slot.candle?.close ?? Number.NaN), slot.time as UTCTimestamp, this.#candles);
  }

  /** Apply the colours of the page. */
  paint(): void {
    this.#palette = palette();
    const { text, grid, up, down, accent } = this.#palette;
    this.#chart.applyOptions({
      layout: { textColor: text, panes: { separatorColor: grid } },
      grid: { vertLines: { color: grid }, horzLines: { color: grid } },
      rightPriceScale: { borderColor: grid },
      timeScale: { borderColor: grid },
    });
    this.#candles.applyOptions({ upColor: up, downColor: down, borderUpColor: up, borderDownColor: down, wickUpColor: up, wickDownColor: down, priceLineColor: accent });
    if (this.#slots.length > 0) this.setAll(this.#slots);
  }

  close(): void {
    this.#chart.remove();
  }

  #setPrecision(slots: readonly Slot[]): void {
    const last = slots.at(-1)?.candle;
    if (!last) return;
    const precision = Math.max(...[last.open, last.high, last.low, last.close].map(decimals));
    this.#candles.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
  }

  #candle({ time, candle }: Slot): CandlestickData | WhitespaceData {
    if (candle === null) return { time: time as UTCTimestamp };
    const kind = kindOf(candle);
    const line = this.#palette[kind];
    return {
      time: time as UTCTimestamp,
      open: Number(candle.open),
      high: Number(candle.high),
      low: Number(candle.low),
      close: Number(candle.close),
      // The forming candle is hollow.
      color: candle.closed ? line : "transparent",
      borderColor: line,
      wickColor: line,
    };
  }

  #bar({ time, candle }: Slot): HistogramData | WhitespaceData {
    if (candle === null) return { time: time as UTCTimestamp };
    return { time: time as UTCTimestamp, value: Number(candle.volume), color: this.#palette[`${kindOf(candle)}Volume`] };
  }

  #band({ time, candle, gap }: Slot): HistogramData | WhitespaceData {
    const kind = bandOf(candle, gap);
    if (kind === "up" || kind === "down") return { time: time as UTCTimestamp };
    return { time: time as UTCTimestamp, value: 1, color: this.#palette[`${kind}Band`] };
  }
}

function palette() {
  return {
    text: colour("muted"),
    grid: colour("grid"),
    accent: colour("accent"),
    up: colour("up"),
    down: colour("down"),
    infilled: colour("infilled"),
    incomplete: colour("incomplete"),
    upVolume: colour("up-volume"),
    downVolume: colour("down-volume"),
    infilledVolume: colour("infilled"),
    incompleteVolume: colour("incomplete"),
    infilledBand: colour("infilled-band"),
    incompleteBand: colour("incomplete-band"),
    gapBand: colour("gap-band"),
  };
}
