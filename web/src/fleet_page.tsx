// The fleet: all sandboxes in one dense table.
import { computed, signal } from "@preact/signals";
import { memo } from "./memo.ts";
import { useEffect, useRef, useState } from "preact/hooks";
import { act, can, items, nameOf, remove } from "./actions.ts";
import { CreateDialog } from "./create.tsx";
import { fleet, newest, now } from "./fleet.ts";
import { brief, date, mib, shortDigest, shortImage } from "./format.ts";
import { Icon } from "./icons.tsx";
import { MenuButton } from "./menu.tsx";
import { detailsOf, terminalOf } from "./router.ts";
import { Snapshots } from "./snapshots.tsx";
import { Labels, Status } from "./status.tsx";
import type { Sandbox } from "./types.ts";
import { attempt, Button, Empty, LinkButton } from "./ui.tsx";

const filter = signal("");
const selected = signal<Set<string>>(new Set());
const sort = signal<{ by: Column; down: boolean }>({ by: "age", down: false });

type Column = "name" | "status" | "image" | "cpu" | "mem" | "age";

const keys: Record<Column, (sb: Sandbox) => string | number> = {
  name: (sb) => nameOf(sb),
  status: (sb) => sb.status,
  image: (sb) => sb.image,
  cpu: (sb) => sb.vcpu,
  mem: (sb) => sb.mem_mib,
  age: (sb) => -sb.created_at,
};

/** Every word must be somewhere in what there is to see of a sandbox. */
function matches(sb: Sandbox, words: string[]): boolean {
  if (!words.length) return true;
  const text = [sb.id, sb.name, sb.image, sb.status, ...Object.entries(sb.labels ?? {}).map((p) => p.join("="))].join(" ").toLowerCase();
  return words.every((w) => text.includes(w));
}

const shown = computed(() => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { by, down } = sort.value;
  const key = keys[by];
  const list = newest.value.filter((sb) => matches(sb, words));
  if (by === "age") return down ? list.reverse() : list;
  return list.sort((a, b) => {
    const x = key(a), y = key(b);
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  });
});

const chosen = computed(() => shown.value.filter((sb) => selected.value.has(sb.id)));

export function FleetPage() {
  const [creating, setCreating] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = "Sandboxes · BandSox";
    const key = (e: KeyboardEvent) => {
      if (e.key !== "/" || e.ctrlKey || e.metaKey || (e.target as Element).closest("input:not([type=checkbox]),textarea,select,dialog")) return;
      e.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const some = chosen.value;
  return (
    <>
      <div class="bar">
        <h1>Sandboxes</h1>
        <Counts />
        <span class="grow" />
        {some.length > 0 && (
          <>
            <span class="dim">{some.length} selected</span>
            <Button icon="stop" disabled={!some.some((sb) => can(sb, "stop"))} onClick={attempt(() => all(some.filter((sb) => can(sb, "stop")), (sb) => act(sb, "stop")))}>Stop</Button>
            <Button icon="trash" kind="danger" onClick={attempt(async () => (await remove(some)) && (selected.value = new Set()))}>Delete</Button>
          </>
        )}
        <label class="search">
          <Icon name="search" />
          <input ref={search} class="input" type="search" placeholder="Filter  ( / )" aria-label="Filter sandboxes" value={filter.value}
            onInput={(e) => (filter.value = e.currentTarget.value)}
            onKeyDown={(e) => e.key === "Escape" && (filter.value = "")} />
        </label>
        <Button icon="plus" kind="primary" onClick={() => setCreating(true)}>Create</Button>
      </div>
      <Table onCreate={() => setCreating(true)} />
      <Snapshots />
      {creating && <CreateDialog onClose={() => setCreating(false)} />}
    </>
  );
}

const all = (list: Sandbox[], f: (sb: Sandbox) => Promise<unknown>) =>
  Promise.allSettled(list.map(f)).then((done) => {
    const failed = done.find((d) => d.status === "rejected");
    if (failed) throw (failed as PromiseRejectedResult).reason;
  });

function Counts() {
  const count = (s: string) => newest.value.filter((sb) => sb.status === s).length;
  if (!fleet.value) return null;
  return (
    <span class="counts dim">
      {newest.value.length} in all{["running", "paused", "failed"].map((s) => (count(s) ? `, ${count(s)} ${s}` : "")).join("")}
    </span>
  );
}

function Heading({ by, class: c, children }: { by: Column; class?: string; children: string }) {
  const s = sort.value;
  const on = s.by === by;
  return (
    <th class={c} aria-sort={on ? (s.down ? "descending" : "ascending") : undefined}>
      <button type="button" class="sort" onClick={() => (sort.value = { by, down: on && !s.down })}>
        {children}
        <i aria-hidden="true">{on ? (s.down ? "\u2193" : "\u2191") : ""}</i>
      </button>
    </th>
  );
}

function Table({ onCreate }: { onCreate: () => void }) {
  const rows = shown.value;
  if (!fleet.value) return <div class="panel skeleton" aria-busy="true" />;
  if (fleet.value.size === 0)
    return (
      <Empty title="There are no sandboxes.">
        <p class="dim">Create one here, or by <code>bandsox run alpine</code>.</p>
        <Button icon="plus" kind="primary" onClick={onCreate}>Create a sandbox</Button>
      </Empty>
    );
  const every = rows.length > 0 && rows.every((sb) => selected.value.has(sb.id));
  return (
    <div class="panel scroll">
      <table class="fleet">
        <thead>
          <tr>
            <th class="check">
              <input type="checkbox" aria-label="Select all" checked={every} onChange={() => (selected.value = new Set(every ? [] : rows.map((sb) => sb.id)))} />
            </th>
            <Heading by="name" class="w-name">Name</Heading>
            <Heading by="status" class="w-status">Status</Heading>
            <Heading by="image" class="wide">Image</Heading>
            <Heading by="cpu" class="num w-num wide">CPU</Heading>
            <Heading by="mem" class="num w-num wide">Memory</Heading>
            <Heading by="age" class="num w-num wide">Age</Heading>
            <th class="w-labels wide">Labels</th>
            <th class="w-actions"><span class="hidden">Actions</span></th>
          </tr>
        </thead>
        <tbody>
          {rows.map((sb) => <Row key={sb.id} sb={sb} />)}
        </tbody>
      </table>
      {rows.length === 0 && <Empty title="None matches the filter." />}
    </div>
  );
}

const Row = memo(function Row({ sb }: { sb: Sandbox }) {
  return (
    <tr>
      <td class="check"><Check id={sb.id} name={nameOf(sb)} /></td>
      <td class="name">
        <a href={detailsOf(sb.id)}>{nameOf(sb)}</a>
        {sb.name && <span class="mono dim id">{sb.id.slice(0, 8)}</span>}
      </td>
      <td><Status sb={sb} /></td>
      <td class="cut wide" title={sb.image + (sb.digest ? "\n" + shortDigest(sb.digest) : "")}>{shortImage(sb.image)}</td>
      <td class="num wide">{sb.vcpu}</td>
      <td class="num wide">{mib(sb.mem_mib)}</td>
      <td class="num wide" title={date(sb.created_at * 1000)}><Age since={sb.created_at} /></td>
      <td class="cut wide"><Labels of={sb.labels} max={2} /></td>
      <td class="actions">
        {can(sb, "start") && <Button icon="play" kind="plain" label={"Start " + nameOf(sb)} onClick={attempt(() => act(sb, "start"))} />}
        {can(sb, "resume") && <Button icon="play" kind="plain" label={"Resume " + nameOf(sb)} onClick={attempt(() => act(sb, "resume"))} />}
        {can(sb, "pause") && <Button icon="pause" kind="plain" label={"Pause " + nameOf(sb)} onClick={attempt(() => act(sb, "pause"))} />}
        {can(sb, "stop") && <Button icon="stop" kind="plain" label={"Stop " + nameOf(sb)} onClick={attempt(() => act(sb, "stop"))} />}
        {sb.status === "running" && <LinkButton icon="terminal" label={"Terminal of " + nameOf(sb)} href={terminalOf(sb.id)} />}
        <MenuButton label={"More for " + nameOf(sb)} items={() => items(sb)} />
      </td>
    </tr>
  );
});

function Check({ id, name }: { id: string; name: string }) {
  const toggle = () => {
    const next = new Set(selected.value);
    if (!next.delete(id)) next.add(id);
    selected.value = next;
  };
  return <input type="checkbox" aria-label={"Select " + name} checked={selected.value.has(id)} onChange={toggle} />;
}

function Age({ since }: { since: number }) {
  return <>{brief(now.value / 1000 - since)}</>;
}
