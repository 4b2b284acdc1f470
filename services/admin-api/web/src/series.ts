/** The known candles of a symbol and timeframe as consecutive slots; a slot without a candle is a gap. */

import { type Candle, replaces } from "./candle.ts";
import type { Gap } from "./gap.ts";
import { seconds } from "./times.ts";

/** A window of the time axis; `time` in unix seconds; without a candle it is a gap. `gap`: the gap of `GET /gaps` that contains it. */
export interface Slot {
  readonly time: number;
  readonly candle: Candle | null;
  readonly gap: Gap | null;
}

/** The slots that a merge changed: none; the last one or the one after it; any. */
export type Change = "nothing" | "tail" | "all";

/** Maximum number of windows of a drawn gap, because memory is finite; the axis shows its true length. */
const LONGEST_GAP = 1_000;

export class Series {
  readonly #step: number;
  readonly #candles = new Map<number, Candle>();
  #slots: readonly Slot[] = [];
  #gaps: readonly { readonly from: number; readonly to: number; readonly gap: Gap }[] = [];
  #marked = "";

  /** `step`: the timeframe's seconds. */
  constructor(step: number) {
    this.#step = step;
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  get last(): Candle | null {
    return this.#slots.at(-1)?.candle ?? null;
  }

  get first(): Candle | null {
    return this.#slots[0]?.candle ?? null;
  }

  at(time: number): Candle | null {
    return this.#candles.get(time) ?? null;
  }

  /** The gap that contains the window that opens at `time`. */
  gapAt(time: number): Gap | null {
    return this.#gaps.find(({ from, to }) => from <= time && time < to)?.gap ?? null;
  }

  /** Set the gaps in the store; returns whether they changed. */
  setGaps(gaps: readonly Gap[]): boolean {
    const marked = JSON.stringify(gaps);
    if (marked === this.#marked) return false;
    this.#marked = marked;
    this.#gaps = gaps.map((gap) => ({ from: seconds(gap.from), to: seconds(gap.to), gap }));
    this.#slots = this.#laidOut();
    return true;
  }

  /** Add candles, in any order and repeatedly; older states of a window are ignored. */
  merge(candles: readonly Candle[]): Change {
    const last = this.#slots.at(-1)?.time;
    let change: Change = "nothing";
    for (const candle of candles) {
      const time = seconds(candle.open_time);
      const known = this.#candles.get(time);
      if (known !== undefined && (same(known, candle) || !replaces(candle, known))) continue;
      this.#candles.set(time, candle);
      const atEnd = last !== undefined && (time === last || time === last + this.#step);
      change = change !== "all" && atEnd ? "tail" : "all";
    }
    if (change === "tail") this.#extend();
    if (change === "all") this.#slots = this.#laidOut();
    return change;
  }

  #extend(): void {
    const kept = this.#slots.slice(0, -1);
    const last = this.#slots.at(-1)?.time ?? 0;
    const ends = [last, last + this.#step].map((time) => this.#slot(time));
    this.#slots = [...kept, ...ends.filter((slot) => slot.candle !== null)];
  }

  #slot(time: number): Slot {
    return { time, candle: this.at(time), gap: this.gapAt(time) };
  }

  #laidOut(): Slot[] {
    const slots: Slot[] = [];
    for (const time of [...this.#candles.keys()].sort((a, b) => a - b)) {
      const before = slots.at(-1)?.time ?? time - this.#step;
      const end = Math.min(time, before + (LONGEST_GAP + 1) * this.#step);
      for (let open = before + this.#step; open < end; open += this.#step) slots.push(this.#slot(open));
      slots.push(this.#slot(time));
    }
    return slots;
  }
}

function same(a: Candle, b: Candle): boolean {
  return a.revision === b.revision && a.closed === b.closed && a.at === b.at && a.trades === b.trades && a.close === b.close && a.volume === b.volume;
}
