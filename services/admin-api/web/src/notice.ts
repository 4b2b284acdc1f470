/** Where a page says what became of something that the reader has done. */

import { complaint } from "./api.ts";
import { h, setText } from "./dom.ts";
import { withToken } from "./token.ts";

export class Notice {
  readonly element = h("p", { class: "notice", role: "status", hidden: "" });

  say(text: string): void {
    setText(this.element, text);
    this.element.hidden = false;
  }

  /** Do what takes the token, and tell how it went; `done` is what to say then. Nothing if the reader gave no token. */
  async change(what: string, done: string, act: (token: string) => Promise<void>): Promise<void> {
    try {
      if (await withToken(act)) this.say(done);
    } catch (error) {
      this.say(`${what}: ${complaint(error)}`);
    }
  }
}
