// All sandboxes, kept as they are by the server's events.
import { computed, signal } from "@preact/signals";
import { Failure, get, vm } from "./api.ts";
import type { Event, Sandbox } from "./types.ts";

/** By id; undefined until they are known. */
export const fleet = signal<Map<string, Sandbox> | undefined>(undefined);
export const newest = computed(() => [...(fleet.value?.values() ?? [])].sort((a, b) => b.created_at - a.created_at));

/** How they are kept: by events, by asking again and again, or not at all. */
export const link = signal<"connecting" | "live" | "polling" | "lost">("connecting");

/** A clock for ages: not every row needs a timer. */
export const now = signal(Date.now());

// Ids aren't used twice: what an answer that was under way says of one that was
// deleted meanwhile is old.
const gone = new Set<string>();

type Listener = (e: Event) => void;
const listeners = new Set<Listener>();

/** Calls f with each event from now on, until the function it returns is called. */
export function onEvent(f: Listener): () => void {
  listeners.add(f);
  return () => listeners.delete(f);
}

export async function refresh() {
  try {
    const list = await get<Sandbox[]>("/api/vms");
    const next = new Map<string, Sandbox>();
    for (const sb of list) {
      if (gone.has(sb.id)) continue;
      // The same object for the same sandbox: its row isn't drawn again.
      const old = fleet.peek()?.get(sb.id);
      next.set(sb.id, old && JSON.stringify(old) === JSON.stringify(sb) ? old : sb);
    }
    fleet.value = next;
    if (link.peek() === "lost") link.value = "polling";
  } catch (e) {
    if (e instanceof Failure && e.status === 0) link.value = "lost";
  }
}

/** Asks for one again: it has changed, or is gone. */
export async function refreshOne(id: string) {
  let sb: Sandbox | undefined;
  try {
    sb = await get<Sandbox>(vm(id));
  } catch (e) {
    if (!(e instanceof Failure) || e.status !== 404) return;
  }
  const next = new Map(fleet.peek());
  if (sb && !gone.has(sb.id)) next.set(sb.id, sb);
  else next.delete(id);
  fleet.value = next;
}

const changed = new Set<string>();
let pending: ReturnType<typeof setTimeout> | undefined;
const manyAtOnce = 8;

function note(id: string) {
  changed.add(id);
  pending ??= setTimeout(() => {
    const ids = [...changed];
    changed.clear();
    pending = undefined;
    if (ids.length > manyAtOnce) void refresh();
    else for (const id of ids) void refreshOne(id);
  }, 40);
}

/** Takes away one that is known to be deleted. */
export function forget(id: string) {
  gone.add(id);
  const next = new Map(fleet.peek());
  if (next.delete(id)) fleet.value = next;
}

function take(e: Event) {
  if (e.type === "gap") void refresh();
  else if (e.type === "deleted" && e.sandbox) {
    forget(e.sandbox);
  } else if (e.sandbox && !e.type.startsWith("process_")) note(e.sandbox);
  for (const f of listeners) f(e);
}

const types = ["created", "ready", "paused", "resumed", "stopped", "failed", "deleted", "renamed", "updated", "process_started", "process_exited", "oom", "gap"];
let source: EventSource | undefined;
let poll: ReturnType<typeof setInterval> | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;

function connect() {
  disconnect();
  const s = new EventSource("/api/events");
  source = s;
  const hear = (m: MessageEvent<string>) => take(JSON.parse(m.data) as Event);
  for (const t of ["message", ...types]) s.addEventListener(t, hear as EventListener);
  s.onopen = () => {
    link.value = "live";
    stopPolling();
    void refresh(); // what happened before the stream began
  };
  s.onerror = () => {
    startPolling(); // the browser tries again by itself, unless it was refused
    if (s.readyState === EventSource.CLOSED) retry ??= setTimeout(connect, 5000);
  };
}

function startPolling() {
  if (poll !== undefined) return;
  link.value = "polling";
  void refresh();
  poll = setInterval(() => void refresh(), 2000);
}

function stopPolling() {
  clearInterval(poll);
  poll = undefined;
}

function disconnect() {
  source?.close();
  source = undefined;
  clearTimeout(retry);
  retry = undefined;
  stopPolling();
}

/**
 * Begins to keep the fleet. A tab that nobody looks at lets go: browsers open few
 * connections to one server, and each stream of events takes one.
 */
export function watchFleet() {
  void refresh();
  connect();
  let leaving: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(disconnect, 10_000);
    else if (!source) connect();
  });
  setInterval(() => (now.value = Date.now()), 5000);
}
