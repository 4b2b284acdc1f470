/** The timeframes of the contract; their windows are aligned to the Unix epoch. */

import type { CandleBody } from "./openapi.ts";

export type Timeframe = CandleBody["timeframe"];

/** The length of a timeframe's window in seconds. */
export const SECONDS: Readonly<Record<Timeframe, number>> = {
  "1m": 60,
  "5m": 300,
  "15m": 900,
  "1h": 3_600,
  "4h": 14_400,
  "1d": 86_400,
  "1w": 604_800,
};

export const TIMEFRAMES = Object.keys(SECONDS) as readonly Timeframe[];

/** Whether a text names a timeframe. */
export function isTimeframe(text: string): text is Timeframe {
  return Object.hasOwn(SECONDS, text);
}
