// One sandbox: its figures, files, processes, console, events and settings.
import { useEffect, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { act, can, items, nameOf, rename } from "./actions.ts";
import { Copies } from "./copies.tsx";
import { Console } from "./console.tsx";
import { Events } from "./events.tsx";
import { Facts } from "./facts.tsx";
import { Files } from "./files.tsx";
import { fleet, refreshOne } from "./fleet.ts";
import { MenuButton } from "./menu.tsx";
import { Processes } from "./processes.tsx";
import { terminalOf } from "./router.ts";
import { Figures } from "./stats.tsx";
import { Status } from "./status.tsx";
import type { Sandbox } from "./types.ts";
import { attempt, Button, Empty, LinkButton, tell } from "./ui.tsx";

const tabs = {
  files: ["Files", Files],
  processes: ["Processes", Processes],
  console: ["Console", Console],
  events: ["Events", Events],
} as const;
type Tab = keyof typeof tabs;

const fromHash = (): Tab => (location.hash.slice(1) in tabs ? (location.hash.slice(1) as Tab) : "files");
const tab = signal<Tab>(fromHash());
addEventListener("hashchange", () => (tab.value = fromHash()));

/** The sandbox of this id or name. */
export function useSandbox(ref: string): Sandbox | undefined | null {
  const all = fleet.value;
  const list = [...(all?.values() ?? [])];
  const like = list.filter((s) => s.id.startsWith(ref));
  const sb = all?.get(ref) ?? list.find((s) => s.name === ref) ?? (like.length === 1 && ref ? like[0] : undefined);
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    setAsked(false);
    void refreshOne(ref).then(() => setAsked(true));
  }, [ref]);
  return sb ?? (all && asked ? null : undefined);
}

export function Details({ id }: { id: string }) {
  const sb = useSandbox(id);
  useEffect(() => {
    if (sb) document.title = nameOf(sb) + " · BandSox";
  }, [sb]);
  useEffect(() => void (tab.value = fromHash()), []);
  if (sb === undefined) return <div class="panel skeleton" aria-busy="true" />;
  if (sb === null) return <NoSandbox />;
  return (
    <>
      <Head sb={sb} />
      <Figures sb={sb} />
      <div class="columns">
        <div class="main">
          <Tabs />
          <Body sb={sb} />
        </div>
        <Facts sb={sb} />
      </div>
    </>
  );
}

export function NoSandbox() {
  useEffect(() => void (document.title = "No such sandbox · BandSox"), []);
  return <Empty title="There is no such sandbox, or no longer."><a class="button" href="/">All sandboxes</a></Empty>;
}

function Head({ sb }: { sb: Sandbox }) {
  const copy = () => navigator.clipboard.writeText(sb.id).then(() => tell("Copied"), () => tell(sb.id));
  return (
    <div class="bar">
      <h1>{nameOf(sb)}</h1>
      <Button icon="pencil" kind="plain" label="Rename" onClick={attempt(() => rename(sb))} />
      <Status sb={sb} />
      {sb.name && <span class="mono dim">{sb.id}</span>}
      <Button local icon="copy" kind="plain" label="Copy the id" onClick={() => void copy()} />
      {sb.reason && <span class="dim cut">{sb.reason}</span>}
      <span class="grow" />
      {can(sb, "start") && <Button icon="play" onClick={attempt(() => act(sb, "start"))}>Start</Button>}
      {can(sb, "resume") && <Button icon="play" onClick={attempt(() => act(sb, "resume"))}>Resume</Button>}
      {can(sb, "pause") && <Button icon="pause" onClick={attempt(() => act(sb, "pause"))}>Pause</Button>}
      {can(sb, "stop") && <Button icon="stop" onClick={attempt(() => act(sb, "stop"))}>Stop</Button>}
      <Copies sb={sb} />
      {sb.status === "running" && <LinkButton icon="terminal" href={terminalOf(sb.id)}>Terminal</LinkButton>}
      <MenuButton label="More" items={() => items(sb).slice(1)} />
    </div>
  );
}

function Tabs() {
  const show = (t: Tab) => {
    tab.value = t;
    history.replaceState(null, "", "#" + t);
  };
  const keys = (e: KeyboardEvent) => {
    const all = Object.keys(tabs) as Tab[];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    show(all[(all.indexOf(tab.value) + step + all.length) % all.length]!);
    document.getElementById("tab-" + tab.value)?.focus();
  };
  return (
    <div class="tabs" role="tablist" onKeyDown={keys}>
      {(Object.keys(tabs) as Tab[]).map((t) => (
        <button key={t} id={"tab-" + t} type="button" role="tab" aria-selected={tab.value === t} aria-controls="tab-body" tabIndex={tab.value === t ? 0 : -1} onClick={() => show(t)}>
          {tabs[t][0]}
        </button>
      ))}
    </div>
  );
}

function Body({ sb }: { sb: Sandbox }) {
  const Part = tabs[tab.value][1];
  return <div id="tab-body" role="tabpanel" aria-labelledby={"tab-" + tab.value}><Part key={tab.value} sb={sb} /></div>;
}
