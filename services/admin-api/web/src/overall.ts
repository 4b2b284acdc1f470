/** The health of the system on every page: polls it, updates the badge in the header, and notifies listeners. */

import { complaint, getHealth, type Health } from "./api.ts";
import { byId, setAttribute, setText } from "./dom.ts";
import { poll } from "./polling.ts";

/** A report, or the reason of its absence. */
export type Outcome = { readonly health: Health } | { readonly error: string };

const EVERY_MILLISECONDS = 2_000;

export class Overall {
  #newest: Outcome | null = null;
  readonly #listeners = new Set<(outcome: Outcome) => void>();

  /** Poll until the page is closed. */
  start(): void {
    const never = new AbortController().signal;
    void poll(EVERY_MILLISECONDS, never, async () => {
      try {
        this.#notify({ health: await getHealth(never) });
      } catch (error) {
        this.#notify({ error: complaint(error) });
      }
    });
  }

  /** Call `listener` with the newest outcome and every later one, until `signal`. */
  listen(signal: AbortSignal, listener: (outcome: Outcome) => void): void {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
    if (this.#newest !== null) listener(this.#newest);
  }

  #notify(outcome: Outcome): void {
    this.#newest = outcome;
    const badge = byId("overall");
    const failing = "health" in outcome ? outcome.health.checks.filter((check) => !check.ok).length : 0;
    const well = "health" in outcome && outcome.health.status === "ok";
    setText(badge, well ? "Healthy" : "health" in outcome ? `${failing} failing` : "No response");
    setAttribute(badge, "data-mark", well ? "good" : "bad");
    for (const listener of this.#listeners) listener(outcome);
  }
}
