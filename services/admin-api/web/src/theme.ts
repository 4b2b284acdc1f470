/** Light or dark colours: the system's preference, until the user chooses. */

import { byId, setAttribute, setText } from "./dom.ts";

const KEY = "theme";
const CHANGED = "themechange";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Apply the user's choice, and connect the button. */
export function installTheme(): void {
  const toggle = byId("theme");
  const show = (): void => {
    setAttribute(document.documentElement, "data-theme", current());
    const other = current() === "dark" ? "Light" : "Dark";
    setText(toggle, other);
    setAttribute(toggle, "aria-label", `${other} colours`);
    document.dispatchEvent(new Event(CHANGED));
  };
  toggle.addEventListener("click", () => {
    localStorage.setItem(KEY, current() === "dark" ? "light" : "dark");
    show();
  });
  dark.addEventListener("change", show);
  show();
}

/** Call `act` with the colour scheme, now and after each change of the system's; for a page without the button. */
export function followScheme(act: (scheme: "light" | "dark") => void): void {
  dark.addEventListener("change", () => act(current()));
  act(current());
}

/** Call `act` whenever the colours have changed, until `signal`. */
export function onTheme(signal: AbortSignal, act: () => void): void {
  document.addEventListener(CHANGED, act, { signal });
}

/** The value of a colour of style.css. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function current(): "light" | "dark" {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return dark.matches ? "dark" : "light";
}
