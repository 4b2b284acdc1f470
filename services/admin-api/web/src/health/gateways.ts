/** The gateways' reports: connection attempts, clock, lag, and suspect or stale subscriptions. */

import type { InstanceBody } from "../openapi.ts";
import { Table, type Mark } from "../table.ts";
import { duration } from "../times.ts";
import type { Details } from "./details.ts";

const NAMED = 8;
/** The share of connection attempts from which the page warns. */
const TIGHT = 0.8;
/** The clock's difference from which the page warns; no calculation depends on the clock. */
const SKEWED_SECONDS = 2;

export class Gateways {
  readonly #table = new Table<InstanceBody>(
    "Gateways and Kraken",
    [
      { label: "Gateway", text: (row) => row.instance },
      { label: "Symbols", text: ({ details }) => `${count(details["symbols"])} of ${count(details["wanted"])}`, numeric: true },
      { label: "Connection attempts", text: ({ details }) => attempts(details), mark: ({ details }) => attemptsMark(details) },
      { label: "Clock", text: ({ details }) => clock(details), mark: ({ details }) => (Math.abs(skew(details)) > SKEWED_SECONDS ? "warn" : null) },
      { label: "Behind", text: ({ details }) => duration(count(details["lag_seconds"])), mark: ({ details }) => markOf(details["overloaded"], "bad") },
      { label: "Suspect", text: ({ details }) => names(details["suspect"]) },
      { label: "Excluded until verified", text: ({ details }) => names(details["excluded"]), mark: ({ details }) => markOf(details["excluded"], "warn") },
      { label: "Stale subscriptions", text: ({ details }) => names(details["stale"]), mark: ({ details }) => markOf(details["stale"], "bad") },
    ],
    (row) => row.instance,
    "No gateway is online.",
  );
  readonly element = this.#table.element;

  show(instances: readonly InstanceBody[]): void {
    this.#table.show(instances.filter((row) => row.service === "kraken-gateway" && row.online));
  }
}

/** Connection attempts of the last 10 minutes. */
export function attempts(details: Details): string {
  return `${count(details["connection_attempts"])} of ${count(details["connection_attempts_limit"])} in 10 min`;
}

/** The difference of the machine's clock from Kraken's. */
export function clock(details: Details): string {
  const ahead = skew(details);
  return Math.abs(ahead) < 0.05 ? "in sync" : `${duration(Math.abs(ahead))} ${ahead > 0 ? "ahead" : "behind"}`;
}

function attemptsMark(details: Details): Mark | null {
  return count(details["connection_attempts"]) > TIGHT * count(details["connection_attempts_limit"]) ? "warn" : null;
}

function skew(details: Details): number {
  return count(details["clock_skew_seconds"]);
}

function count(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function markOf(value: unknown, mark: Mark): Mark | null {
  return Array.isArray(value) && value.length > 0 ? mark : null;
}

function names(value: unknown): string {
  if (!Array.isArray(value) || value.length === 0) return "none";
  const more = value.length - NAMED;
  return value.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
