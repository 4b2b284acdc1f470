/** The search for symbols. */

import type { SymbolBody } from "../openapi.ts";

/** Symbols that contain the text, best match first: by base, then by quote. `BTC USD`, `btc-usd` and `btcusd` all find BTC/USD. */
export function find(entries: readonly SymbolBody[], text: string): SymbolBody[] {
  const wanted = plain(text);
  return entries
    .map((entry) => ({ entry, rank: rank(entry.symbol, wanted) }))
    .filter(({ rank }) => rank < 4)
    .sort((a, b) => a.rank - b.rank || a.entry.symbol.localeCompare(b.entry.symbol))
    .map(({ entry }) => entry);
}

function rank(symbol: string, wanted: string): number {
  const [base, quote] = symbol.split("/").map(plain);
  const whole = plain(symbol);
  if (base === wanted || whole === wanted) return 0;
  if (whole.startsWith(wanted)) return 1;
  if (quote?.startsWith(wanted)) return 2;
  return whole.includes(wanted) ? 3 : 4;
}

function plain(text: string): string {
  return text.toUpperCase().replace(/[^A-Z0-9.]/g, "");
}
