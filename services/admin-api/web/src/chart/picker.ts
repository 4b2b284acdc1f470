/** The symbol's field: a combobox that searches while the user types, by the ARIA pattern. */

import type { SymbolBody } from "../openapi.ts";
import { h, setAttribute } from "../dom.ts";
import { find } from "./search.ts";

const SHOWN = 100;

export class Picker {
  readonly #list = h("ul", { id: "symbols", role: "listbox", "aria-label": "Symbols", hidden: "" });
  readonly #input = h("input", {
    id: "symbol",
    type: "text",
    role: "combobox",
    "aria-expanded": "false",
    "aria-controls": "symbols",
    "aria-autocomplete": "list",
    autocomplete: "off",
    autocapitalize: "characters",
    spellcheck: "false",
    enterkeyhint: "go",
  });
  readonly element = h("div", { class: "picker" }, h("label", { for: "symbol" }, "Symbol"), this.#input, this.#list);
  #entries: readonly SymbolBody[] = [];
  #found: readonly SymbolBody[] = [];
  #active = 0;
  #current = "";

  constructor(private readonly pick: (symbol: string) => void) {
    this.#input.addEventListener("focus", () => this.#input.select());
    this.#input.addEventListener("click", () => this.#search(""));
    this.#input.addEventListener("input", () => this.#search(this.#input.value));
    this.#input.addEventListener("blur", () => this.#close());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    // Keep the focus in the field until the click event: losing it closes the list.
    this.#list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.#list.addEventListener("click", (event) => {
      const option = (event.target as Element).closest("[data-symbol]");
      if (option instanceof HTMLElement) this.#choose(option.dataset["symbol"] ?? "");
    });
  }

  focus(): void {
    this.#input.focus();
  }

  setEntries(entries: readonly SymbolBody[]): void {
    this.#entries = entries;
  }

  setCurrent(symbol: string): void {
    this.#current = symbol;
    if (this.#list.hidden) this.#input.value = symbol;
  }

  #search(text: string): void {
    this.#found = find(this.#entries, text);
    this.#active = text === "" ? Math.max(0, this.#found.findIndex((entry) => entry.symbol === this.#current)) : 0;
    const options = this.#found.slice(0, Math.max(SHOWN, this.#active + 1)).map((entry, index) =>
      h("li", { id: `symbol-${index}`, role: "option", "data-symbol": entry.symbol }, entry.symbol, h("small", {}, entry.live ? "" : "not live")),
    );
    const more = this.#found.length - options.length;
    const notes = more > 0 ? [`and ${more} more: type to find them`] : options.length === 0 ? ["no such symbol"] : [];
    this.#list.replaceChildren(...options, ...notes.map((note) => h("li", { class: "note", role: "presentation" }, note)));
    this.#list.hidden = false;
    setAttribute(this.#input, "aria-expanded", "true");
    this.#mark();
  }

  #mark(): void {
    const options = [...this.#list.querySelectorAll("[role=option]")];
    options.forEach((option, index) => setAttribute(option, "aria-selected", String(index === this.#active)));
    const active = options[this.#active];
    setAttribute(this.#input, "aria-activedescendant", active?.id ?? null);
    active?.scrollIntoView({ block: "nearest" });
  }

  #key(event: KeyboardEvent): void {
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    const move = moves[event.key];
    if (move !== undefined) {
      event.preventDefault();
      if (this.#list.hidden) {
        this.#search("");
        return;
      }
      const last = this.#list.querySelectorAll("[role=option]").length - 1;
      this.#active = Math.min(Math.max(this.#active + move, 0), Math.max(last, 0));
      this.#mark();
    } else if (event.key === "Enter" && !this.#list.hidden) {
      event.preventDefault();
      const found = this.#found[this.#active];
      if (found !== undefined) this.#choose(found.symbol);
    } else if (event.key === "Escape") this.#close();
  }

  #choose(symbol: string): void {
    this.#current = symbol;
    this.#close();
    this.pick(symbol);
  }

  #close(): void {
    this.#list.hidden = true;
    this.#input.value = this.#current;
    setAttribute(this.#input, "aria-expanded", "false");
    setAttribute(this.#input, "aria-activedescendant", null);
  }
}
