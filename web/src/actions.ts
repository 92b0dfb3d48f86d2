// What can be done with a sandbox, from any page.
import { post, send, vm } from "./api.ts";
import { forget, refreshOne } from "./fleet.ts";
import { detailsOf, terminalOf } from "./router.ts";
import type { Item } from "./menu.tsx";
import type { Sandbox, State } from "./types.ts";
import { attempt, confirm, prompt, tell, tellError } from "./ui.tsx";

export type Action = "start" | "stop" | "kill" | "restart" | "pause" | "resume";

/** As states.go has it: what each state allows. */
const allowed: Record<Action, State[]> = {
  start: ["stopped", "failed"],
  stop: ["running", "paused"],
  kill: ["running", "paused"],
  restart: ["running", "paused", "stopped", "failed"],
  pause: ["running"],
  resume: ["paused"],
};

export const can = (sb: Sandbox, a: Action) => !sb.doing && allowed[a].includes(sb.status);
export const nameOf = (sb: Sandbox) => sb.name || sb.id;

export async function act(sb: Sandbox, a: Action) {
  try {
    await post(vm(sb.id, "/" + a));
  } finally {
    void refreshOne(sb.id);
  }
}

export async function rename(sb: Sandbox) {
  const save = async (name: string) => {
    if (name === (sb.name ?? "")) return;
    await send("PATCH", vm(sb.id), { name });
    await refreshOne(sb.id);
  };
  await prompt("Rename " + nameOf(sb), sb.name ?? "", "Rename", save, "A name is unique among sandboxes; empty takes it away.");
}

/** Asks, then deletes all of these, a few at a time. */
export async function remove(list: Sandbox[]): Promise<boolean> {
  const one = list.length === 1 ? nameOf(list[0]!) : `${list.length} sandboxes`;
  const sure = await confirm(`Delete ${one}?`, {
    text: list.length === 1 ? "What runs in it ends, and its files are gone for good." : "What runs in them ends, and their files are gone for good.",
    yes: "Delete",
    danger: true,
    list: list.length > 1 ? list.map(nameOf) : undefined,
  });
  if (!sure) return false;
  const queue = [...list];
  let done = 0;
  const work = async () => {
    for (let sb = queue.shift(); sb; sb = queue.shift()) {
      try {
        await send("DELETE", vm(sb.id));
        forget(sb.id);
        done++;
      } catch (e) {
        tellError(e);
      }
    }
  };
  await Promise.all(Array.from({ length: 4 }, work));
  if (list.length > 1) tell(`${done} of ${list.length} deleted`);
  return done > 0;
}

/** A row's menu. */
export function items(sb: Sandbox): Item[] {
  const a = (text: string, action: Action, icon: Item["icon"], danger = false): Item[] =>
    can(sb, action) ? [{ text, icon, danger, do: attempt(() => act(sb, action)) }] : [];
  return [
    { text: "Open", icon: "file", href: detailsOf(sb.id) },
    ...(sb.status === "running" ? [{ text: "Terminal", icon: "terminal" as const, href: terminalOf(sb.id) }] : []),
    ...a("Start", "start", "play"),
    ...a("Pause", "pause", "pause"),
    ...a("Resume", "resume", "play"),
    ...a("Restart", "restart", "restart"),
    ...a("Stop", "stop", "stop"),
    ...a("Kill", "kill", "close", true),
    { text: "Rename", icon: "pencil", do: attempt(() => rename(sb)) },
    { text: "Delete", icon: "trash", danger: true, do: attempt(() => remove([sb])) },
  ];
}
