// What has happened to a sandbox: what the server still knows of, and what comes.
import { useEffect, useState } from "preact/hooks";
import { events, send } from "./api.ts";
import { onEvent } from "./fleet.ts";
import { date, time } from "./format.ts";
import type { Event, Sandbox } from "./types.ts";
import { Empty, Problem } from "./ui.tsx";

const kept = 1000;

const words = (e: Event) => e.type.replaceAll("_", " ");
const details = (e: Event) => Object.entries(e.details ?? {}).map(([k, v]) => k + "=" + v).join("  ");

/** Those of before; the newest is the last. */
async function past(id: string, signal: AbortSignal): Promise<Event[]> {
  const list: Event[] = [];
  const answer = await send("GET", "/api/events?after=0&follow=false&sandbox=" + encodeURIComponent(id), undefined, { signal });
  for await (const { data } of events(answer)) if ((data as Event).sandbox === id) list.push(data as Event);
  return list.slice(-kept);
}

export function Events({ sb }: { sb: Sandbox }) {
  const [list, setList] = useState<Event[]>();
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    const abort = new AbortController();
    const add = (more: Event[]) =>
      setList((old = []) => [...new Map([...old, ...more].map((e) => [e.id, e])).values()].sort((a, b) => a.id - b.id).slice(-kept));
    const stop = onEvent((e) => e.sandbox === sb.id && add([e]));
    past(sb.id, abort.signal).then(add, (e) => abort.signal.aborted || setError(e));
    return () => {
      stop();
      abort.abort();
    };
  }, [sb.id]);
  if (error !== undefined && !list) return <Problem error={error} />;
  if (!list) return <div class="panel skeleton" aria-busy="true" />;
  if (list.length === 0) return <Empty title="Nothing has happened to it that is still known." />;
  return (
    <div class="panel scroll">
      <table>
        <thead><tr><th class="w-time">Time</th><th class="w-type">Event</th><th>Details</th></tr></thead>
        <tbody>
          {list.toReversed().map((e) => (
            <tr key={e.id}>
              <td class="mono" title={date(Date.parse(e.time))}>{time(Date.parse(e.time))}</td>
              <td>{words(e)}</td>
              <td class="cut mono" title={details(e)}>{details(e)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
