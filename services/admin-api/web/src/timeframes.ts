/** The timeframes of the contract; their windows are aligned to the Unix epoch. */

export const TIMEFRAMES = ["1m", "5m", "15m", "1h", "4h", "1d", "1w"] as const;

export type Timeframe = (typeof TIMEFRAMES)[number];

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

/** Whether a text names a timeframe. */
export function isTimeframe(text: string): text is Timeframe {
  return (TIMEFRAMES as readonly string[]).includes(text);
}
