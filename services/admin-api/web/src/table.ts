/** A table that is refreshed in place: rows are kept by key, so focus, selection and scroll position survive. */

import { button, h, setAttribute, setText } from "./dom.ts";

/** The state of an item; shown by text or a sign beside the colour. */
export type Mark = "good" | "bad" | "warn" | "unknown";

export interface Action {
  readonly label: string;
  /** For screen readers, which do not show the row. */
  readonly description: string;
  readonly enabled: boolean;
  run(): void;
}

export interface Column<Row> {
  readonly label: string;
  text?(row: Row): string;
  mark?(row: Row): Mark | null;
  link?(row: Row): string;
  action?(row: Row): Action;
  readonly numeric?: boolean;
  /** Whether the text stays on one line if it fits. */
  readonly whole?: boolean;
}

export class Table<Row> {
  readonly element: HTMLElement;
  readonly #body = h("tbody");
  readonly #empty: HTMLElement;
  readonly #scroller: HTMLElement;
  readonly #rows = new Map<string, Line<Row>>();

  /** `empty`: the text without rows. */
  constructor(
    caption: string,
    private readonly columns: readonly Column<Row>[],
    private readonly key: (row: Row) => string,
    empty: string,
  ) {
    const heads = columns.map((column) => h("th", { scope: "col", ...(column.numeric ? { class: "number" } : {}) }, column.label));
    const table = h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, ...heads)), this.#body);
    this.#scroller = h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption }, table);
    this.#empty = h("p", { class: "empty" }, empty);
    this.element = h("div", {}, this.#scroller, this.#empty);
  }

  show(rows: readonly Row[]): void {
    this.#scroller.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    const keys = new Set(rows.map(this.key));
    for (const [key, line] of this.#rows) {
      if (!keys.has(key)) {
        line.element.remove();
        this.#rows.delete(key);
      }
    }
    rows.forEach((row, index) => {
      const key = this.key(row);
      const line = this.#rows.get(key) ?? new Line(key, this.columns);
      this.#rows.set(key, line);
      line.show(row);
      if (this.#body.children[index] !== line.element) this.#body.insertBefore(line.element, this.#body.children[index] ?? null);
    });
  }
}

class Line<Row> {
  readonly element: HTMLTableRowElement;
  readonly #cells: readonly HTMLElement[];
  #row: Row | null = null;

  constructor(
    key: string,
    private readonly columns: readonly Column<Row>[],
  ) {
    this.#cells = columns.map((column) => this.#cell(column));
    this.element = h("tr", { "data-key": key }, ...this.#cells.map((cell) => cell.parentElement as HTMLElement));
  }

  show(row: Row): void {
    this.#row = row;
    this.columns.forEach((column, index) => {
      const cell = this.#cells[index];
      if (cell === undefined) return;
      if (column.action) {
        const action = column.action(row);
        setText(cell, action.label);
        setAttribute(cell, "aria-label", action.description);
        setAttribute(cell, "disabled", action.enabled ? null : "");
      } else setText(cell, column.text?.(row) ?? "");
      if (column.mark) setAttribute(cell, "data-mark", column.mark(row));
      if (column.link) setAttribute(cell, "href", column.link(row));
    });
  }

  #cell(column: Column<Row>): HTMLElement {
    const attributes = column.numeric ? { class: "number" } : column.whole ? { class: "whole" } : {};
    const content = column.action
      ? button("", () => this.#row !== null && column.action?.(this.#row).run())
      : h(column.link ? "a" : "span");
    h("td", { ...attributes, "data-label": column.label }, content);
    return content;
  }
}
