// Live figures, with what they were in the last minutes.
import { useEffect, useRef } from "preact/hooks";
import { get, vm } from "./api.ts";
import { bytes, duration, mib } from "./format.ts";
import { usePoll } from "./poll.ts";
import type { Sandbox, Stats } from "./types.ts";

const kept = 60;
const fewPoints = 10; // so few look like a speck at the edge

export function Figures({ sb }: { sb: Sandbox }) {
  const lives = sb.status === "running" || sb.status === "paused";
  const past = useRef<Stats[]>([]);
  const { value: s } = usePoll(async (signal) => {
    const s = await get<Stats>(vm(sb.id, "/stats"), signal);
    past.current = [...past.current.slice(1 - kept), s];
    return s;
  }, 1000, [sb.id, sb.status], lives);
  useEffect(() => {
    if (!lives) past.current = [];
  }, [lives]);
  const list = lives ? past.current : [];
  const now = lives ? s : undefined;
  return (
    <div class="figures" aria-label="Live figures">
      <Figure name="CPU" value={now ? now.cpu_percent.toFixed(now.cpu_percent < 10 ? 1 : 0) + " %" : ""} of={sb.vcpu === 1 ? "1 CPU" : sb.vcpu + " CPUs"}
        line={list.map((p) => p.cpu_percent)} top={100 * sb.vcpu} />
      <Figure name="Memory" value={now ? bytes(now.mem_used) : ""} of={mib(sb.mem_mib)} line={list.map((p) => p.mem_used)} top={sb.mem_mib * 1048576} />
      <Figure name="Disk" value={now?.guest ? bytes(now.disk_used) : ""} of={mib(sb.disk_size_mib)} line={list.map((p) => p.disk_used)} top={sb.disk_size_mib * 1048576} />
      <Figure name="Processes" value={now?.guest ? String(now.processes) : ""} of={now ? "load " + now.load.toFixed(2) : ""} line={list.map((p) => p.processes)} />
      <Figure name="Up" value={now ? duration(now.uptime_seconds) : ""} of={now ? bytes(now.mem_host) + " of the host" : ""} />
    </div>
  );
}

function Figure(p: { name: string; value: string; of: string; line?: number[]; top?: number }) {
  return (
    <div class="figure">
      <span class="dim">{p.name}</span>
      <b>{p.value || "\u2013"}</b>
      <small class="dim">{p.of}</small>
      {p.line && <Line of={p.line} top={p.top} />}
    </div>
  );
}

/** A line of the last figures. It is scaled by its largest, or by top where that is near. */
function Line({ of, top = 0 }: { of: number[]; top?: number }) {
  const w = 120, h = 28;
  const most = Math.max(...of, top / 8, 1e-9);
  const x = (i: number) => (w * (kept - of.length + i)) / (kept - 1);
  const points = of.map((v, i) => `${x(i).toFixed(1)},${(h - 1 - (h - 2) * Math.max(0, v / most)).toFixed(1)}`);
  return (
    <svg class="line" viewBox={`0 0 ${w} ${h}`} preserveAspectRatio="none" aria-hidden="true">
      {points.length > fewPoints && (
        <>
          <path class="area" d={`M${x(0).toFixed(1)},${h}L${points.join("L")}L${w},${h}z`} />
          <path d={"M" + points.join("L")} />
        </>
      )}
    </svg>
  );
}
