/** The part of admin-api's HTTP API that the dashboard uses. URLs are relative, so that they work behind a proxy that adds a path. */

import type { Candle } from "./candle.ts";
import { parseExact } from "./exact.ts";
import type { Gap } from "./gap.ts";
import type { Timeframe } from "./timeframes.ts";

/** An error response; the message is the `detail` of its problem+json. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

export interface SymbolEntry {
  readonly symbol: string;
  readonly live: boolean;
}

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface Instance {
  readonly service: string;
  readonly instance: string;
  readonly online: boolean;
  readonly seen_seconds_ago: number;
  readonly version: string;
  readonly started_at: string;
  readonly details: Details;
}

export interface Feed {
  readonly feed: string;
  readonly state: string;
  readonly fresh: boolean;
  readonly since: string;
  readonly watermark_age_seconds: number | null;
  readonly symbols: number;
  readonly rejected: Readonly<Record<string, string>>;
}

export interface SymbolHealth {
  readonly symbol: string;
  readonly live: boolean;
  readonly closed_until: string | null;
  readonly at: string;
  readonly age_seconds: number;
}

export interface Task {
  readonly task: string;
  readonly every_seconds: number;
  readonly last_run: string | null;
  readonly trouble: string | null;
}

export interface DeadLetterCount {
  readonly service: string;
  readonly count: number;
  readonly topic: string;
  readonly reason: string;
  readonly at: string;
}

/** The owners of a symbol and their start. There should be one gateway and one aggregator; `also` names further ones. */
export interface Ownership {
  readonly symbol: string;
  readonly gateway: string | null;
  readonly gateway_since: string | null;
  readonly aggregator: string | null;
  readonly aggregator_since: string | null;
  readonly also: readonly string[];
}

export interface Audit {
  readonly every_seconds: number;
  readonly horizon_seconds: number;
  readonly last_at: string | null;
  readonly trouble: string | null;
}

export interface GapCounts {
  readonly waiting: number;
  readonly requested: number;
  readonly unfillable: number;
  readonly windows_missing: number;
  readonly filled_since_start: number;
}

/** A stored minute that differed from Kraken's; `ended`: how the difference ended, null while it is open. */
export interface Difference {
  readonly symbol: string;
  readonly open_time: string;
  readonly kind: string;
  readonly what: string;
  readonly at: string;
  readonly ended: string | null;
  readonly ended_at: string | null;
}

export interface SelfCheck {
  readonly checks: number;
  readonly candles: number;
  readonly unanswered: number;
  readonly last_at: string | null;
  readonly open: number;
  readonly differences: readonly Difference[];
}

export type Details = Readonly<Record<string, unknown>>;

export interface Health {
  readonly status: string;
  /** Settings that are unsafe in production; they do not change the status. */
  readonly warnings: readonly string[];
  readonly at: string;
  readonly checks: readonly Check[];
  readonly instances: readonly Instance[];
  readonly feeds: readonly Feed[];
  readonly symbols: readonly SymbolHealth[];
  readonly tasks: readonly Task[];
  readonly dead_letters: readonly DeadLetterCount[];
  readonly ownership: readonly Ownership[];
  readonly audit: Audit;
  readonly gaps: GapCounts;
  readonly self_check: SelfCheck;
}

/** A message that a service could not use; `truncated`: its payload was cut. */
export interface DeadLetter {
  readonly id: string;
  readonly service: string;
  readonly topic: string;
  readonly payload: string;
  readonly reason: string;
  readonly at: string;
  readonly truncated: boolean;
}

export interface Gaps {
  readonly gaps: readonly Gap[];
  readonly total: { readonly gaps: number; readonly windows: number; readonly filled: number };
  readonly filled_since_start: number;
  readonly requests_waiting: number;
  readonly audit: Audit;
}

/** A symbol in a path: `BTC-USD` for `BTC/USD`. */
export function inPath(symbol: string): string {
  return encodeURIComponent(symbol.replace("/", "-"));
}

/** The URL of the event stream of a symbol and timeframe; it resumes after `lastId` unless that is empty. */
export function streamUrl(symbol: string, timeframe: Timeframe, lastId: string): string {
  const query = new URLSearchParams({ symbol: symbol.replace("/", "-"), timeframe });
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
  const query = new URLSearchParams({ timeframe, limit: String(limit) });
  if (before !== undefined) query.set("to", String(before));
  const answer = await get(`candles/${inPath(symbol)}?${query}`, signal);
  return (parseExact(await answer.text()) as { candles: readonly Candle[] }).candles;
}

/** All symbols. */
export async function getSymbols(signal: AbortSignal): Promise<readonly SymbolEntry[]> {
  return ((await (await get("symbols", signal)).json()) as { symbols: readonly SymbolEntry[] }).symbols;
}

/** The report of `GET /health`, from a route that always returns 200: a browser logs a 503 as an error. */
export async function getHealth(signal: AbortSignal): Promise<Health> {
  return (await (await get("dashboard/health", signal)).json()) as Health;
}

/** The known gaps and their totals; a long list is cut. */
export async function getGaps(signal: AbortSignal): Promise<Gaps> {
  return (await (await get("gaps", signal)).json()) as Gaps;
}

/** The gaps of one series. */
export async function getGapsOf(symbol: string, timeframe: Timeframe, signal: AbortSignal): Promise<readonly Gap[]> {
  const query = new URLSearchParams({ symbol, timeframe });
  return ((await (await get(`gaps?${query}`, signal)).json()) as Gaps).gaps;
}

/** The newest dead letters, and the number of all kept ones. */
export async function getDeadLetters(limit: number, signal: AbortSignal): Promise<{ readonly dead_letters: readonly DeadLetter[]; readonly total: number }> {
  return (await (await get(`dead-letters?limit=${limit}`, signal)).json()) as { dead_letters: readonly DeadLetter[]; total: number };
}

/** Republish a dead letter's message on its topic. */
export async function postResend(id: string, token: string): Promise<void> {
  await change("POST", `dead-letters/${encodeURIComponent(id)}/resend`, token);
}

/** Drop a dead letter. */
export async function deleteDeadLetter(id: string, token: string): Promise<void> {
  await change("DELETE", `dead-letters/${encodeURIComponent(id)}`, token);
}

/** The maximum number of windows in a request with a range. */
const LONGEST_RANGE = 40_000;

/** Request the candles of a gap; ApiError 401 if the token is wrong. */
export async function postRepair(gap: Gap, token: string): Promise<void> {
  const { symbol, timeframe, from, to, windows } = gap;
  await repair(windows > LONGEST_RANGE ? { symbol, timeframe } : { symbol, timeframe, from, to }, token);
}

/** Audit the store now. ApiError 401 if the token is wrong. */
export async function postAudit(token: string): Promise<void> {
  await repair({}, token);
}

async function repair(wanted: Readonly<Record<string, string>>, token: string): Promise<void> {
  await change("POST", "repair", token, wanted);
}

async function change(method: string, address: string, token: string, body?: unknown): Promise<void> {
  const headers = { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  await checked(await fetch(address, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }));
}

async function get(address: string, signal: AbortSignal): Promise<Response> {
  // Give up after 10 s: the connection to a dead server may hang for minutes.
  const patience = AbortSignal.timeout(10_000);
  const joined = new AbortController();
  for (const source of [signal, patience]) {
    if (source.aborted) joined.abort(source.reason);
    source.addEventListener("abort", () => joined.abort(source.reason), { once: true });
  }
  return checked(await fetch(address, { signal: joined.signal }));
}

async function checked(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  const json = answer.headers.get("Content-Type")?.includes("json") ?? false;
  const detail = json ? ((await answer.json()) as { detail?: unknown }).detail : undefined;
  throw new ApiError(answer.status, typeof detail === "string" ? detail : `the response was ${answer.status} ${answer.statusText}`);
}

/** The text to show after a failed request. */
export function complaint(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return "admin-api does not answer";
}
