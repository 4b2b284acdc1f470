/** The health of everything, asked for on every page: the badge in the header, and whoever listens. */

import { complaint, getHealth, type Health } from "./api.ts";
import { byId, setAttribute, setText } from "./dom.ts";
import { poll } from "./polling.ts";

/** A report, or why there is none. */
export type Answer = { readonly health: Health } | { readonly error: string };

const EVERY_MILLISECONDS = 2_000;

export class Overall {
  #newest: Answer | null = null;
  readonly #listeners = new Set<(answer: Answer) => void>();

  /** Ask until the page is left. */
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

  /** Hear every answer, beginning with the newest, until `signal`. */
  listen(signal: AbortSignal, listener: (answer: Answer) => void): void {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
    if (this.#newest !== null) listener(this.#newest);
  }

  #notify(answer: Answer): void {
    this.#newest = answer;
    const badge = byId("overall");
    const failing = "health" in answer ? answer.health.checks.filter((check) => !check.ok).length : 0;
    const well = "health" in answer && answer.health.status === "ok";
    setText(badge, well ? "All well" : "health" in answer ? `${failing} failing` : "No answer");
    setAttribute(badge, "data-mark", well ? "good" : "bad");
    for (const listener of this.#listeners) listener(answer);
  }
}
