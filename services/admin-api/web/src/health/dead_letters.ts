/** Dead letters: messages that a service could not use, with buttons to resend or drop them. */

import { deleteDeadLetter, getDeadLetters, postResend } from "../api.ts";
import { h, setText } from "../dom.ts";
import { Notice } from "../notice.ts";
import type { DeadLetterBody, DeadLetterCountBody } from "../openapi.ts";
import { poll } from "../polling.ts";
import { Table } from "../table.ts";
import { shownToSecond } from "../times.ts";

const EVERY_MILLISECONDS = 5_000;
const SHOWN = 25;
const LONGEST_SHOWN = 200;

export class DeadLetterTable {
  readonly #signal: AbortSignal;
  readonly #seen = h("p", { class: "hint" });
  readonly #more = h("p", { class: "hint" });
  readonly #notice = new Notice();
  readonly #busy = new Set<string>();
  readonly #table = new Table<DeadLetterBody>(
    "Dead letters, newest first",
    [
      { label: "Time", text: (row) => shownToSecond(row.at), whole: true },
      { label: "Service", text: (row) => row.service, whole: true },
      { label: "Topic", text: (row) => row.topic },
      { label: "Reason", text: (row) => cut(row.reason) },
      { label: "Message", text: (row) => cut(row.payload) },
      {
        label: "Resend",
        action: (row) => ({
          label: row.truncated ? "Truncated" : "Resend",
          description: row.truncated ? `The message of ${row.topic} was truncated` : `Resend the message of ${row.topic}`,
          enabled: !row.truncated && !this.#busy.has(row.id),
          run: () => void this.#change(row, `Resent on ${row.topic}`, postResend),
        }),
      },
      {
        label: "Drop",
        action: (row) => ({
          label: "Drop",
          description: `Drop the dead letter of ${row.service} about ${row.topic}`,
          enabled: !this.#busy.has(row.id),
          run: () => void this.#change(row, `Dropped the dead letter about ${row.topic}`, deleteDeadLetter),
        }),
      },
    ],
    (row) => row.id,
    "No dead letters.",
  );
  readonly element = h("div", {}, this.#seen, this.#notice.element, this.#table.element, this.#more);

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    void poll(EVERY_MILLISECONDS, signal, () => this.#refresh());
  }

  /** Show the number of dead letters of each service, including those no longer kept. */
  showCounts(seen: readonly DeadLetterCountBody[]): void {
    setText(this.#seen, seen.length === 0 ? "" : `Seen since the start: ${seen.map(({ service, count }) => `${service} ${count}`).join(", ")}`);
  }

  async #refresh(): Promise<void> {
    try {
      const found = await getDeadLetters(SHOWN, this.#signal);
      this.#table.show(found.dead_letters);
      const more = found.total - found.dead_letters.length;
      setText(this.#more, more > 0 ? `and ${more} older ones` : "");
    } catch {
      // The page's status shows the failure; the table stays until the next response.
    }
  }

  async #change(
    deadLetter: DeadLetterBody,
    done: string,
    act: (id: string, token: string) => Promise<void>,
  ): Promise<void> {
    if (this.#busy.has(deadLetter.id)) return;
    this.#busy.add(deadLetter.id);
    await this.#notice.change(deadLetter.topic, done, (token) => act(deadLetter.id, token));
    this.#busy.delete(deadLetter.id);
    await this.#refresh();
  }
}

function cut(text: string): string {
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}...` : text;
}
