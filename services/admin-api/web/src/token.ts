/** The admin token: entered once, kept until the tab is closed, deleted when it is refused. */

import { ApiError } from "./api.ts";
import { button, h } from "./dom.ts";

const KEY = "admin-token";

/** Run `act` with the token; if it is unknown or wrong, a dialog requests it. False if the user cancels. */
export async function withToken(act: (token: string) => Promise<void>): Promise<boolean> {
  let reason = "This action needs the ADMIN_TOKEN of admin-api. The page keeps it until this tab is closed.";
  for (;;) {
    const token = sessionStorage.getItem(KEY) ?? (await enterToken(reason));
    if (token === null) return false;
    sessionStorage.setItem(KEY, token);
    try {
      await act(token);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) throw error;
      sessionStorage.removeItem(KEY);
      reason = error.message;
    }
  }
}

async function enterToken(reason: string): Promise<string | null> {
  const input = h("input", { id: "token", type: "password", required: "", autocomplete: "off" });
  const dialog = h("dialog", { "aria-labelledby": "token-title" });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "token-title" }, "Admin token"),
    h("p", {}, reason),
    h("label", { for: "token" }, "Token"),
    input,
    h("div", { class: "row" }, button("Cancel", () => dialog.close(""), { class: "quiet" }), h("button", { type: "submit", class: "primary" }, "Continue")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close(input.value);
  });
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  dialog.remove();
  return dialog.returnValue === "" ? null : dialog.returnValue;
}
