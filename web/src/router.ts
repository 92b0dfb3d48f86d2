// Which page is shown: the address bar says it, and nothing else does.
import { signal } from "@preact/signals";
import { decodeBytes, encodeBytes } from "./api.ts";

export interface Route {
  path: string;
  query: Map<string, string>;
}

function here(): Route {
  const pairs = location.search.slice(1).split("&").map((p) => p.split("=", 2).map((t) => decodeBytes(t.replaceAll("+", " "))));
  return { path: location.pathname, query: new Map(pairs.map(([k, v]) => [k!, v ?? ""])) };
}

export const route = signal<Route>(here());

/** Shows another page of ours without loading it anew. */
export function go(to: string, replace = false) {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  route.value = here();
  if (!replace) scrollTo(0, 0);
}

/** Changes one parameter of the address: a place within the page. */
export function put(key: string, value: string) {
  const query = new Map(route.peek().query).set(key, value);
  history.pushState(null, "", "?" + [...query].map(([k, v]) => k + "=" + encodeBytes(v).replaceAll("%2F", "/")).join("&") + location.hash);
  route.value = here();
}

export const detailsOf = (id: string, dir?: string) => "/vm_details?id=" + encodeURIComponent(id) + (dir ? "&dir=" + encodeBytes(dir) : "");
export const terminalOf = (id: string) => "/terminal?id=" + encodeURIComponent(id);

const ours = new Set(["/", "/vm_details", "/terminal", "/markdown_viewer", "/login"]);

/** Makes links between our pages quick; a click with a modifier stays the browser's. */
export function takeLinks() {
  addEventListener("popstate", () => (route.value = here()));
  addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = (e.target as Element).closest?.("a");
    if (!a || a.target || a.hasAttribute("download") || a.origin !== location.origin || !ours.has(a.pathname)) return;
    if (a.hash && a.pathname === location.pathname && a.search === location.search) return;
    e.preventDefault();
    go(a.pathname + a.search + a.hash);
  });
}
