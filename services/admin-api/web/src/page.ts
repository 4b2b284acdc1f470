/** The interface of the dashboard's pages. */

import type { Route } from "./route.ts";

export interface Page {
  readonly element: HTMLElement;
  /** Show another state of the same page; the element stays. */
  show(route: Route): void;
  close(): void;
}
