/** The line on a page that shows the outcome of a user's action. */

import { complaint } from "./api.ts";
import { h, setText } from "./dom.ts";
import { withToken } from "./token.ts";

export class Notice {
  readonly element = h("p", { class: "notice", role: "status", hidden: "" });

  show(text: string): void {
    setText(this.element, text);
    this.element.hidden = false;
  }

  /** Run `act` with the token, and show the outcome; `done` is the text for success. Shows nothing if the user cancels. */
  async change(what: string, done: string, act: (token: string) => Promise<void>): Promise<void> {
    try {
      if (await withToken(act)) this.show(done);
    } catch (error) {
      this.show(`${what}: ${complaint(error)}`);
    }
  }
}
