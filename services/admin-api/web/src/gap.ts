/** A gap, and its description. */

import type { GapBody } from "./openapi.ts";
import { duration, seconds, shown } from "./times.ts";

/** Consecutive candles that are missing in the store, or `incomplete` there. */
export type Gap = GapBody;

/** The identity of a gap; it stays the same while the gap is being filled. */
export function keyOf(gap: Gap): string {
  return `${gap.symbol} ${gap.timeframe} ${gap.from}`;
}

/** One line for tooltips and screen readers. */
export function titleOf(gap: Gap): string {
  return `${gap.symbol} ${gap.timeframe}, ${shown(gap.from)} to ${shown(gap.to)} (${duration(seconds(gap.to) - seconds(gap.from))}), ${gap.incomplete ? "incomplete" : "missing"}, ${progressOf(gap)}`;
}

/** The progress of its repair. */
export function progressOf(gap: Gap): string {
  const filled = `${gap.filled} of ${gap.windows} filled`;
  const failed = gap.attempts > 0 ? `, ${gap.attempts} failed ${gap.attempts === 1 ? "attempt" : "attempts"}` : "";
  return `${gap.state}: ${filled}${failed}`;
}
