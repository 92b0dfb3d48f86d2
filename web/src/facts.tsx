// What a sandbox is made of, and what its users say of it.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { send, vm } from "./api.ts";
import { now, refreshOne } from "./fleet.ts";
import { date, duration, mib, parseDuration, parsePairs, shortDigest, showPairs } from "./format.ts";
import { EditDialog, MetadataDialog } from "./metadata.tsx";
import { PortForm } from "./ports.tsx";
import { Labels } from "./status.tsx";
import type { Sandbox } from "./types.ts";
import { attempt, Button, prompt } from "./ui.tsx";

type Editing = "metadata" | "labels" | "env" | undefined;

export function Facts({ sb }: { sb: Sandbox }) {
  const [editing, setEditing] = useState<Editing>();
  const close = () => setEditing(undefined);
  const patch = async (body: object) => {
    await send("PATCH", vm(sb.id), body);
    await refreshOne(sb.id);
  };
  const merge = (key: "labels" | "env_vars", old: Record<string, string> = {}) => (next: Record<string, string>) =>
    patch({ [key]: { ...Object.fromEntries(Object.keys(old).map((k) => [k, null])), ...next } });
  return (
    <aside class="facts" aria-label="About this sandbox">
      <Part title="Sandbox">
        <dl>
          <Fact name="Image" value={sb.image} />
          <Fact name="Digest" value={shortDigest(sb.digest)} title={sb.digest} mono />
          <Fact name="CPUs" value={String(sb.vcpu)} />
          <Fact name="Memory" value={mib(sb.mem_mib)} />
          <Fact name="Disk" value={mib(sb.disk_size_mib)} title="The most it can hold" />
          <Fact name="Created" value={date(sb.created_at * 1000)} />
          <Lifetime sb={sb} patch={patch} />
          {sb.idle_timeout_ns && <Fact name="When idle" value={`${sb.idle_action ?? "pause"} after ${duration(sb.idle_timeout_ns / 1e9)}`} />}
          {sb.kernel && <Fact name="Kernel" value={shortDigest(sb.kernel)} title={sb.kernel} mono />}
          {sb.pid && <Fact name="Machine" value={"pid " + sb.pid} mono />}
        </dl>
      </Part>
      {sb.status === "running" && <Part title="Open a port"><PortForm sb={sb} /></Part>}
      <Part title="Labels" edit={() => setEditing("labels")}>
        {Object.keys(sb.labels ?? {}).length ? <Labels of={sb.labels} /> : <p class="dim">None</p>}
      </Part>
      <Part title="Environment" edit={() => setEditing("env")}>
        {Object.keys(sb.env_vars ?? {}).length ? <pre class="small">{showPairs(sb.env_vars)}</pre> : <p class="dim">None</p>}
      </Part>
      <Part title="Metadata" edit={() => setEditing("metadata")}>
        {Object.keys(sb.metadata ?? {}).length ? <pre class="small">{JSON.stringify(sb.metadata, null, 2)}</pre> : <p class="dim">None</p>}
      </Part>
      {sb.phases && sb.phases.length > 0 && <Phases of={sb.phases} />}
      {editing === "metadata" && <MetadataDialog title="Metadata" value={sb.metadata ?? {}} onClose={close} save={(metadata) => patch({ metadata, replace_metadata: true })} />}
      {editing === "labels" && <EditDialog title="Labels" label="Labels" hint="KEY=VALUE, one a line" text={showPairs(sb.labels)} parse={parsePairs} onClose={close} save={merge("labels", sb.labels)} />}
      {editing === "env" && <EditDialog title="Environment" label="Environment" hint="KEY=VALUE, one a line; programs that are started from now on have it" text={showPairs(sb.env_vars)} parse={parsePairs} onClose={close} save={merge("env_vars", sb.env_vars)} />}
    </aside>
  );
}

function Part({ title, edit, children }: { title: string; edit?: () => void; children: ComponentChildren }) {
  return (
    <section class="part">
      <h2>{title}{edit && <Button icon="pencil" kind="plain" label={"Edit " + title.toLowerCase()} onClick={edit} />}</h2>
      {children}
    </section>
  );
}

function Fact({ name, value, title, mono }: { name: string; value: string; title?: string; mono?: boolean }) {
  return (
    <>
      <dt>{name}</dt>
      <dd class={"cut" + (mono ? " mono" : "")} title={title ?? value}>{value}</dd>
    </>
  );
}

function Lifetime({ sb, patch }: { sb: Sandbox; patch: (b: object) => Promise<void> }) {
  const save = async (text: string) => {
    const ttl = parseDuration(text);
    if (ttl === undefined) throw new Error(`"${text}" is not a time: 90, 30m, 2h, 1d`);
    await patch({ ttl });
  };
  const change = () => prompt("Time to live", "", "Set", save, "From now: 90, 30m, 2h, 1d; 0 means for good. Then it is deleted, whatever it does.");
  const left = sb.expires_at ? Date.parse(sb.expires_at) - now.value : 0;
  return (
    <>
      <dt>Expires</dt>
      <dd title={sb.expires_at && date(Date.parse(sb.expires_at))}>
        {sb.expires_at ? "in " + duration(left / 1000) : "never"}
        <Button icon="pencil" kind="plain" label="Change the time to live" onClick={attempt(change)} />
      </dd>
    </>
  );
}

function Phases({ of }: { of: { name: string; ns: number }[] }) {
  const total = of.reduce((n, p) => n + p.ns, 0);
  return (
    <Part title="Last start">
      <dl>
        {of.map((p) => <Fact key={p.name} name={p.name} value={(p.ns / 1e6).toFixed(1) + " ms"} />)}
        <Fact name="all" value={(total / 1e6).toFixed(1) + " ms"} />
      </dl>
    </Part>
  );
}
