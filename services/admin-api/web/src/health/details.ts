/** The details of an instance's status as text. They differ by service, so this formats any field. */

import type { InstanceBody } from "../openapi.ts";
import { rfc3339, shown } from "../times.ts";

export type Details = InstanceBody["details"];

const NAMED = 4;
/** Fields that the page shows elsewhere, or that only programs use. */
const LEFT_OUT = new Set([
  ...["symbols", "feeds", "owned_since", "run", "port", "missing"],
  ...["wanted", "connection_attempts", "connection_attempts_limit", "lag_seconds", "overloaded", "suspect", "excluded", "stale", "recent_starts", "clock_skew_seconds"],
]);

/** The symbols and feeds of an instance. */
export function ownership(details: Details): string {
  const parts = [];
  const { symbols, feeds } = details;
  if (Array.isArray(symbols)) parts.push(counted("symbol", symbols.length, symbols.map(String)));
  else if (typeof symbols === "number") parts.push(counted("symbol", symbols, []));
  if (isRecord(feeds)) parts.push(counted("feed", Object.keys(feeds).length, Object.keys(feeds)));
  return parts.join("; ") || "-";
}

/** The other fields as `name value` pairs: queues, problems. */
export function describe(details: Details): string {
  const reported = Object.entries(details).filter(([name]) => !LEFT_OUT.has(name));
  return reported.map(([name, value]) => `${name.replaceAll("_", " ")} ${text(value)}`).join(", ") || "-";
}

function text(value: unknown): string {
  if (value === null) return "none";
  if (typeof value === "number" && isInstant(value)) return shown(rfc3339(value));
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.some(isRecord) ? String(value.length) : value.map(text).join("; ");
  if (!isRecord(value)) return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
  const entries = Object.entries(value);
  if (entries.length > NAMED) return `of ${entries.length}`;
  return entries.length === 0 ? "none" : `(${entries.map(([name, part]) => `${name} ${text(part)}`).join(", ")})`;
}

function counted(noun: string, count: number, names: readonly string[]): string {
  const more = names.length > NAMED ? ", ..." : "";
  const listed = names.length === 0 ? "" : `: ${names.slice(0, NAMED).join(", ")}${more}`;
  return `${count} ${noun}${count === 1 ? "" : "s"}${listed}`;
}

/** Whether a number is unix seconds: a fraction of this size; counters are whole. */
function isInstant(value: number): boolean {
  return !Number.isInteger(value) && value > 1_000_000_000 && value < 10_000_000_000;
}

function isRecord(value: unknown): value is Details {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
