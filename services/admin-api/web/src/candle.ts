/** A candle with its exact numbers, and how the chart shows it. */

import { type Gap, progressOf } from "./gap.ts";
import type { CandleBody } from "./openapi.ts";
import { seconds } from "./times.ts";

/** A candle of the API with its numbers as text. */
export type Candle = { readonly [F in keyof CandleBody]: CandleBody[F] extends number ? string : CandleBody[F] };

/** How a candle looks. */
export type CandleKind = "up" | "down" | "infilled" | "incomplete";

/** How a candle is drawn. Incomplete takes precedence, because the numbers may be wrong. */
export function kindOf(candle: Candle): CandleKind {
  if (!candle.complete && candle.closed) return "incomplete";
  if (candle.infilled) return "infilled";
  return Number(candle.close) >= Number(candle.open) ? "up" : "down";
}

/** The band behind a window. A gap takes precedence: the page may have a candle that the store lacks. */
export function bandOf(candle: Candle | null, gap: Gap | null): CandleKind | "gap" {
  if (candle === null || (gap !== null && !gap.incomplete)) return "gap";
  return gap === null ? kindOf(candle) : "incomplete";
}

/** The remarks on a candle beside its numbers. */
export function remarks(candle: Candle, gap: Gap | null): string[] {
  return [
    candle.closed ? "closed" : "forming",
    ...(candle.infilled ? ["infilled: no trades"] : []),
    ...(candle.closed && !candle.complete ? ["incomplete: some of its minutes are missing"] : []),
    ...(gap === null ? [] : [`${gap.incomplete ? "incomplete" : "missing"} in the store: ${progressOf(gap)}`]),
    ...(candle.revision === "0" ? [] : [`revision ${candle.revision}`]),
    `source ${candle.source}`,
  ];
}

/** Whether `candidate` is a newer state of the same window than `known`. */
export function replaces(candidate: Candle, known: Candle): boolean {
  const revision = Number(candidate.revision) - Number(known.revision);
  if (revision !== 0) return revision > 0;
  if (candidate.closed !== known.closed) return candidate.closed;
  return seconds(candidate.at) >= seconds(known.at);
}

/** The number of decimals in a number's text. */
export function decimals(text: string): number {
  return text.includes(".") ? text.length - text.indexOf(".") - 1 : 0;
}
