// What was started in a sandbox through BandSox.
import { get, send, vm } from "./api.ts";
import { now } from "./fleet.ts";
import { brief, bytes, date } from "./format.ts";
import { usePoll } from "./poll.ts";
import { terminalOf } from "./router.ts";
import type { Process, Sandbox } from "./types.ts";
import { attempt, Button, confirm, Empty, LinkButton, Problem } from "./ui.tsx";

const ended = (p: Process) => {
  const e = p.exit!;
  return e.oom ? "out of memory" : e.timeout ? "timed out" : e.signal ? "signal " + e.signal : "exit " + e.code;
};

export function Processes({ sb }: { sb: Sandbox }) {
  const { value, error, again } = usePoll(async (signal) => {
    const answer = await get<Process[] | { processes: Process[] }>(vm(sb.id, "/processes"), signal);
    return Array.isArray(answer) ? answer : answer.processes;
  }, 2000, [sb.id], sb.status === "running");
  if (sb.status !== "running") return <Empty title={`It is ${sb.status}: nothing runs in it.`} />;
  if (error && !value) return <Problem error={error} />;
  if (!value) return <div class="panel skeleton" aria-busy="true" />;
  if (value.length === 0) return <Empty title="Nothing was started in it."><LinkButton icon="terminal" href={terminalOf(sb.id)}>Terminal</LinkButton></Empty>;
  const kill = async (p: Process) => {
    if (await confirm(`Kill process ${p.pid}?`, { text: p.argv.join(" ").slice(0, 400), yes: "Kill", danger: true })) {
      await send("DELETE", vm(sb.id, "/processes/" + encodeURIComponent(p.id)));
      again();
    }
  };
  return (
    <div class="panel scroll">
      <table>
        <thead><tr><th class="num">PID</th><th class="w-all">Command</th><th class="wide">User</th><th class="num">Age</th><th class="num wide">Output</th><th>State</th><th class="w-actions"><span class="hidden">Actions</span></th></tr></thead>
        <tbody>
          {value.map((p) => (
            <tr key={p.id}>
              <td class="num">{p.pid}</td>
              <td class="cut mono" title={p.argv.join(" ")}>{p.argv.join(" ")}</td>
              <td class="wide">{p.user || "root"}</td>
              <td class="num" title={date(Date.parse(p.started))}>{brief((now.value - Date.parse(p.started)) / 1000)}</td>
              <td class="num wide">{bytes(p.output)}</td>
              <td>{p.exit ? ended(p) : p.tty ? "terminal" : "runs"}{p.viewers > 0 && <span class="dim"> · {p.viewers} attached</span>}</td>
              <td class="actions">
                {p.tty && !p.exit && <LinkButton icon="terminal" label={"Attach to " + p.pid} href={terminalOf(sb.id) + "&process=" + encodeURIComponent(p.id)} />}
                {!p.exit && <Button icon="close" kind="plain" label={"Kill " + p.pid} onClick={attempt(() => kill(p))} />}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
