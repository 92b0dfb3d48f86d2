// The end of what the kernel and the agent have printed.
import { useEffect, useRef } from "preact/hooks";
import { send, vm } from "./api.ts";
import { usePoll } from "./poll.ts";
import type { Sandbox } from "./types.ts";
import { Empty, LinkButton, Problem } from "./ui.tsx";

const shown = 200_000;
// Colours and cursor movements of a terminal, and what else isn't text.
const escapes = /\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]/g;

export function Console({ sb }: { sb: Sandbox }) {
  const ref = useRef<HTMLPreElement>(null);
  const { value, error } = usePoll(async (signal) => {
    const text = await (await send("GET", vm(sb.id, "/console"), undefined, { signal })).text();
    return text.slice(-shown).replace(escapes, "");
  }, 2000, [sb.id]);
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current && ref.current) ref.current.scrollTop = ref.current.scrollHeight;
  }, [value]);
  if (error && value === undefined) return <Problem error={error} />;
  if (value === undefined) return <div class="panel skeleton" aria-busy="true" />;
  if (value === "") return <Empty title="Nothing was printed." />;
  return (
    <div class="panel">
      <div class="bar inner"><span class="grow" /><LinkButton icon="download" href={vm(sb.id, "/console")} download>All of it</LinkButton></div>
      <pre ref={ref} class="console" tabIndex={0} aria-label="Console"
        onScroll={(e) => (atEnd.current = e.currentTarget.scrollTop + e.currentTarget.clientHeight > e.currentTarget.scrollHeight - 20)}>{value}</pre>
    </div>
  );
}
