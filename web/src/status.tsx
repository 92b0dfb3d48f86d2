// A sandbox's state as a dot and a word.
import type { Sandbox } from "./types.ts";

const doing: Record<string, string> = { start: "starting", stop: "stopping", kill: "stopping" };

export function Status({ sb }: { sb: Sandbox }) {
  const word = (sb.doing && doing[sb.doing]) || sb.status;
  const moving = sb.doing || sb.status === "creating";
  return (
    <span class={`status ${moving ? "moving" : sb.status}`} title={sb.reason || undefined}>
      <i aria-hidden="true" />
      {word}
    </span>
  );
}

/** Labels, as many as there is room for. */
export function Labels({ of, max = 99 }: { of?: Record<string, string>; max?: number }) {
  const all = Object.entries(of ?? {}).sort();
  return (
    <span class="labels">
      {all.slice(0, max).map(([k, v]) => (
        <span key={k} class="label" title={k + "=" + v}>{v ? k + "=" + v : k}</span>
      ))}
      {all.length > max && <span class="dim" title={all.slice(max).map((p) => p.join("=")).join("\n")}>+{all.length - max}</span>}
    </span>
  );
}
