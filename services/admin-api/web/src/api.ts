/** The part of admin-api's HTTP API that the dashboard uses. URLs are relative, so that they work behind a proxy that adds a path. */

import createClient from "openapi-fetch";

import type { Candle } from "./candle.ts";
import { parseExact } from "./exact.ts";
import type { DeadLettersBody, GapBody, GapsBody, paths, Problem, RepairHealth, RepairRequest, SymbolBody, SystemHealth } from "./openapi.ts";
import type { Timeframe } from "./timeframes.ts";

export type Health = SystemHealth & RepairHealth;

/** An error response; the message is the `detail` of its problem+json. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** `/dashboard/health` is the report of `/health`, always with 200: a browser logs a 503 as an error. */
const api = createClient<paths & { readonly "/dashboard/health": paths["/health"] }>({ baseUrl: ".", fetch: patiently });

api.use({
  async onResponse({ response }) {
    if (response.ok) return;
    const json = response.headers.get("Content-Type")?.includes("json") ?? false;
    const { detail } = (json ? await response.json() : {}) as Partial<Problem>;
    throw new ApiError(response.status, detail ?? `the response was ${response.status} ${response.statusText}`);
  },
});

/** Give up reading after 10 s: the connection to a dead server may hang for minutes. */
function patiently(request: Request): Promise<Response> {
  if (request.method !== "GET") return fetch(request);
  return fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(10_000)]) });
}

/** The body of a response; one with an error has become an ApiError. */
async function bodyOf<T>(response: Promise<{ readonly data?: T }>): Promise<T> {
  return (await response).data as T;
}

/** A symbol in a path: `BTC-USD` for `BTC/USD`. */
export function inPath(symbol: string): string {
  return symbol.replace("/", "-");
}

/** The URL of the event stream of a symbol and timeframe; it resumes after `lastId` unless that is empty. */
export function streamUrl(symbol: string, timeframe: Timeframe, lastId: string): string {
  const query = new URLSearchParams({ symbol: inPath(symbol), timeframe });
  if (lastId !== "") query.set("lastEventId", lastId);
  return `stream?${query}`;
}

/** Candles, oldest first, the forming one last; `before`: only those that open earlier (unix seconds). */
export async function getCandles(
  symbol: string,
  timeframe: Timeframe,
  limit: number,
  signal: AbortSignal,
  before?: number,
): Promise<readonly Candle[]> {
  const query = { timeframe, limit, ...(before === undefined ? {} : { to: String(before) }) };
  const params = { path: { symbol: inPath(symbol) }, query };
  const text = await bodyOf(api.GET("/candles/{symbol}", { params, parseAs: "text", signal }));
  return (parseExact(text) as { candles: readonly Candle[] }).candles;
}

/** All symbols. */
export async function getSymbols(signal: AbortSignal): Promise<readonly SymbolBody[]> {
  return (await bodyOf(api.GET("/symbols", { signal }))).symbols;
}

/** The report of `GET /health`. */
export function getHealth(signal: AbortSignal): Promise<Health> {
  return bodyOf(api.GET("/dashboard/health", { signal }));
}

/** The known gaps and their totals; a long list is cut. */
export function getGaps(signal: AbortSignal): Promise<GapsBody> {
  return bodyOf(api.GET("/gaps", { signal }));
}

/** The gaps of one series. */
export async function getGapsOf(symbol: string, timeframe: Timeframe, signal: AbortSignal): Promise<readonly GapBody[]> {
  return (await bodyOf(api.GET("/gaps", { params: { query: { symbol, timeframe } }, signal }))).gaps;
}

/** The newest dead letters, and the number of all kept ones. */
export function getDeadLetters(limit: number, signal: AbortSignal): Promise<DeadLettersBody> {
  return bodyOf(api.GET("/dead-letters", { params: { query: { limit } }, signal }));
}

/** Republish a dead letter's message on its topic. */
export async function postResend(id: string, token: string): Promise<void> {
  await api.POST("/dead-letters/{dead_letter_id}/resend", {
    params: { path: { dead_letter_id: id } },
    headers: bearer(token),
  });
}

/** Drop a dead letter. */
export async function deleteDeadLetter(id: string, token: string): Promise<void> {
  await api.DELETE("/dead-letters/{dead_letter_id}", {
    params: { path: { dead_letter_id: id } },
    headers: bearer(token),
  });
}

/** The maximum number of windows in a request with a range. */
const LONGEST_RANGE = 40_000;

/** Request the candles of a gap; ApiError 401 if the token is wrong. */
export async function postRepair(gap: GapBody, token: string): Promise<void> {
  const { symbol, timeframe, from, to, windows } = gap;
  await repair(windows > LONGEST_RANGE ? { symbol, timeframe } : { symbol, timeframe, from, to }, token);
}

/** Audit the store now. ApiError 401 if the token is wrong. */
export async function postAudit(token: string): Promise<void> {
  await repair({}, token);
}

async function repair(body: RepairRequest, token: string): Promise<void> {
  await api.POST("/repair", { body, headers: bearer(token) });
}

function bearer(token: string): { readonly Authorization: string } {
  return { Authorization: `Bearer ${token}` };
}

/** The text to show after a failed request. */
export function complaint(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return "admin-api does not answer";
}
