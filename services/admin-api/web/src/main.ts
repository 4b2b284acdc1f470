/** The shell around the pages: navigation, health badge, theme. */

import { ChartPage } from "./chart/page.ts";
import { CoveragePage } from "./coverage/page.ts";
import { byId, h, setAttribute } from "./dom.ts";
import { HealthPage } from "./health/page.ts";
import { Overall } from "./overall.ts";
import type { Page } from "./page.ts";
import { parseRoute, type Route } from "./route.ts";
import { installTheme } from "./theme.ts";

const TITLES = { chart: "Chart", health: "Health", coverage: "Coverage" } as const;
type Name = keyof typeof TITLES;

const overall = new Overall();
const makers: Record<Name, () => Page> = {
  chart: () => new ChartPage(),
  health: () => new HealthPage(overall),
  coverage: () => new CoveragePage(),
};
let shown: { readonly name: Name; readonly page: Page } | null = null;

function show(route: Route): void {
  if (shown?.name !== route.page) {
    const first = shown === null;
    shown?.page.close();
    shown = { name: route.page, page: makers[route.page]() };
    byId("main").replaceChildren(shown.page.element);
    document.title = `${TITLES[route.page]} - Crypto Ingress`;
    for (const link of byId("pages").children) setAttribute(link, "aria-current", link.id === `to-${route.page}` ? "page" : null);
    if (!first) byId("main").focus({ preventScroll: true });
  }
  shown.page.show(route);
}

installTheme();
for (const name of Object.keys(TITLES) as Name[]) {
  byId("pages").append(h("a", { id: `to-${name}`, href: `#/${name}` }, TITLES[name]));
}
document.querySelector("[data-skip]")?.addEventListener("click", (event) => {
  // The hash is the route, so the link must not change it.
  event.preventDefault();
  byId("main").focus();
});
addEventListener("hashchange", () => show(parseRoute(location.hash)));
overall.start();
show(parseRoute(location.hash));
