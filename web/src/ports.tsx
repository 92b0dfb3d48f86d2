// A guest's servers in the browser. Each has a host name of its own, so that
// what it serves is of one origin, and that is none of ours.
import { useState } from "preact/hooks";
import { post } from "./api.ts";
import { needsTicket } from "./login.tsx";
import type { Sandbox } from "./types.ts";
import { attempt, Button } from "./ui.tsx";
import { version } from "./version.ts";

const here = /^(localhost|.*\.localhost|127\.[\d.]+|\[::1\])$/;

/**
 * The address of a guest's server: by its host name, if this browser can find
 * that. Names that end with localhost lead to the machine that asks: from any
 * other there is only the path, where a page is of no origin at all.
 */
async function addressOf(id: string, port: string): Promise<string> {
  const { domain = "localhost" } = await version();
  if (domain === "localhost" && !here.test(location.hostname)) return `/proxy/${encodeURIComponent(id)}/${port}/`;
  const host = `${location.protocol}//${port}-${id}.${domain}${location.port && ":" + location.port}/`;
  if (!(await needsTicket())) return host;
  const { ticket } = await post<{ ticket: string }>("/api/auth/ticket");
  return host + "?bandsox_ticket=" + encodeURIComponent(ticket);
}

async function open(id: string, port: string) {
  const tab = window.open("about:blank", "_blank"); // at once: after an answer it would be a pop-up
  try {
    const to = new URL(await addressOf(id, port), location.href).href;
    if (!tab) return void location.assign(to);
    tab.opener = null;
    tab.location.replace(to);
  } catch (e) {
    tab?.close();
    throw e;
  }
}

export function PortForm({ sb }: { sb: Sandbox }) {
  const [port, setPort] = useState("");
  const ok = /^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536;
  return (
    <form class="row" onSubmit={(e) => (e.preventDefault(), ok && attempt(() => open(sb.id, String(Number(port))))())}>
      <input class="input" inputMode="numeric" aria-label="Port" placeholder="8080" value={port} onInput={(e) => setPort(e.currentTarget.value.trim())} />
      <Button type="submit" icon="external" disabled={!ok}>Open</Button>
    </form>
  );
}
