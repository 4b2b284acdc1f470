/** The dashboard's routes: `#/chart/BTC-USD/15m`, `#/health`, `#/coverage`. */

import { inPath } from "./api.ts";
import { isTimeframe, type Timeframe } from "./timeframes.ts";

export type Route =
  | { readonly page: "chart"; readonly symbol: string | null; readonly timeframe: Timeframe | null }
  | { readonly page: "health" }
  | { readonly page: "coverage" };

/** The route of a location's hash; anything unknown is the chart. */
export function parseRoute(hash: string): Route {
  const [page, symbol, timeframe] = hash.replace(/^#\/?/, "").split("/");
  if (page === "health" || page === "coverage") return { page };
  return {
    page: "chart",
    symbol: symbol ? symbolOf(symbol) : null,
    timeframe: timeframe !== undefined && isTimeframe(timeframe) ? timeframe : null,
  };
}

/** The hash of a chart. */
export function chartHash(symbol: string, timeframe: Timeframe): string {
  return `#/chart/${encodeURIComponent(inPath(symbol))}/${timeframe}`;
}

function symbolOf(text: string): string | null {
  try {
    return decodeURIComponent(text).replace("-", "/");
  } catch {
    // A hash may contain anything.
    return null;
  }
}
