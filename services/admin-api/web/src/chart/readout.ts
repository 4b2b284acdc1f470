/** The numbers of one candle as text, digit for digit as in the API. */

import { type Candle, remarks } from "../candle.ts";
import { type Gap, progressOf } from "../gap.ts";
import { h, setAttribute, setText } from "../dom.ts";
import { rfc3339, shown } from "../times.ts";

const FIELDS = ["open", "high", "low", "close", "volume", "vwap", "trades"] as const;

export class Readout {
  readonly #time = h("time", { "data-field": "open_time" });
  readonly #remarks = h("span", { class: "remarks", "data-field": "remarks" });
  readonly #values = FIELDS.map((field) => h("dd", { "data-field": field }));
  readonly element = h(
    "section",
    { class: "readout", "aria-label": "The candle under the pointer, or the newest" },
    h("p", {}, this.#time, this.#remarks),
    h("dl", {}, ...FIELDS.map((field, index) => h("div", {}, h("dt", {}, field), this.#values[index] ?? ""))),
  );

  show(candle: Candle, gap: Gap | null): void {
    setAttribute(this.#time, "datetime", candle.open_time);
    setText(this.#time, shown(candle.open_time));
    setText(this.#remarks, remarks(candle, gap).join(" · "));
    FIELDS.forEach((field, index) => setText(this.#values[index] as HTMLElement, candle[field]));
  }

  /** Show a window without a candle. */
  showGap(time: number, gap: Gap | null): void {
    setAttribute(this.#time, "datetime", rfc3339(time));
    setText(this.#time, shown(rfc3339(time)));
    setText(this.#remarks, ["gap: no data (not the same as no trades)", ...(gap === null ? [] : [progressOf(gap)])].join(" · "));
    this.#blank();
  }

  showNothing(): void {
    setText(this.#time, "");
    setText(this.#remarks, "");
    this.#blank();
  }

  /** The shown numbers in one sentence, for screen readers. */
  sentence(): string {
    const values = FIELDS.map((field, index) => `${field} ${this.#values[index]?.textContent}`);
    return `${this.#time.textContent}, ${this.#remarks.textContent}, ${values.join(", ")}`;
  }

  #blank(): void {
    for (const value of this.#values) setText(value, "-");
  }
}
