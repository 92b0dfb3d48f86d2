// A sandbox's files: look, move around, up and down.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post, vm } from "./api.ts";
import { bytes, date } from "./format.ts";
import { Icon } from "./icons.tsx";
import { MenuButton } from "./menu.tsx";
import { base, download, join, kindOf, markdownOf, parent, PathText, resolve } from "./paths.tsx";
import { put, route } from "./router.ts";
import type { Entry, Sandbox } from "./types.ts";
import { attempt, Button, confirm, Empty, Problem, prompt, tell } from "./ui.tsx";
import { uploadAll, Uploads } from "./upload.tsx";
import { Viewer } from "./viewer.tsx";

const atOnce = 1000; // rows

const byName = new Intl.Collator(undefined, { numeric: true });
const order = (a: Entry, b: Entry) => Number(b.is_dir) - Number(a.is_dir) || byName.compare(a.name, b.name);

export function Files({ sb }: { sb: Sandbox }) {
  const path = resolve("/", route.value.query.get("dir") ?? "");
  const go = (to: string) => put("dir", to);
  const [state, setState] = useState<{ path?: string; list?: Entry[]; error?: unknown }>({});
  const [viewing, setViewing] = useState<Entry>();
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const newest = useRef(0);
  const [rows, setRows] = useState(atOnce);

  const load = async () => {
    const mine = ++newest.current;
    try {
      const answer = await get<{ files: Entry[] }>(vm(sb.id, "/files", { path }));
      if (mine !== newest.current) return;
      if (path !== state.path) {
        setRows(atOnce);
        if (panel.current!.getBoundingClientRect().top < 0) panel.current!.scrollIntoView();
      }
      setState({ path, list: answer.files.sort(order) });
    } catch (error) {
      if (mine === newest.current) setState({ path, error });
    }
  };
  useEffect(() => void load(), [sb.id, path, sb.status]);

  const change = async (op: string, body: object) => {
    await post(vm(sb.id, "/files/" + op), body);
    await load();
  };
  const mkdir = async () => {
    await prompt("New directory", "", "Make", async (name) => name && change("mkdir", { path: join(path, name) }), "In " + path);
  };
  const rename = async (e: Entry) => {
    const save = async (to: string) => to && to !== e.name && change("rename", { path: e.path, to: join(path, to) });
    await prompt("Rename " + e.name, e.name, "Rename", save, "A path that begins with / moves it.");
  };
  const remove = async (e: Entry) => {
    if (await confirm(`Delete ${e.name}?`, { text: e.is_dir ? "With all that is in it." : undefined, yes: "Delete", danger: true }))
      await change("remove", { path: e.path, recursive: e.is_dir });
  };
  const upload = async (files: Iterable<File>) => {
    const n = await uploadAll(sb.id, path, [...files]);
    if (n) tell(n === 1 ? "Uploaded" : `${n} files uploaded`);
    await load();
  };
  const drop = (e: DragEvent) => {
    e.preventDefault();
    setOver(false);
    if (e.dataTransfer?.files.length) void upload(e.dataTransfer.files);
  };
  const items = (e: Entry) => [
    ...(e.is_dir ? [] : [{ text: "Download", icon: "download" as const, do: () => download(sb.id, e.path) }]),
    ...(kindOf(e.name) === "markdown" ? [{ text: "Read as a page", icon: "file" as const, href: markdownOf(sb.id, e.path) }] : []),
    { text: "Rename", icon: "pencil" as const, do: attempt(() => rename(e)) },
    { text: "Delete", icon: "trash" as const, danger: true, do: attempt(() => remove(e)) },
  ];
  const { list, error } = state;
  return (
    <div ref={panel} class={"panel drop" + (over ? " over" : "")}
      onDragOver={(e) => (e.preventDefault(), setOver(true))} onDragLeave={(e) => e.currentTarget.contains(e.relatedTarget as Node) || setOver(false)} onDrop={drop}>
      <div class="bar inner">
        <Crumbs path={path} go={go} />
        <span class="grow" />
        <input ref={input} type="file" multiple hidden aria-label="Files to upload" onChange={(e) => {
          void upload(e.currentTarget.files ?? []);
          e.currentTarget.value = "";
        }} />
        <Button icon="restart" kind="plain" label="Look again" onClick={() => void load()} />
        <Button icon="folder" onClick={attempt(mkdir)}>New directory</Button>
        <Button icon="upload" onClick={() => input.current!.click()}>Upload</Button>
      </div>
      <Uploads />
      {error !== undefined && <Problem error={error}>{path !== "/" && <Button icon="up" onClick={() => go(parent(path))}>Up</Button>}</Problem>}
      {list && list.length === 0 && <Empty title="Nothing is in it. Drop files here." />}
      {list && list.length > 0 && (
        <div class="scroll">
          <table class={"fixed files" + (state.path === path ? "" : " old")}>
            <thead><tr><th>Name</th><th class="num w-size">Size</th><th class="w-date wide">Changed</th><th class="w-actions"><span class="hidden">Actions</span></th></tr></thead>
            <tbody>
              {list.slice(0, rows).map((e) => (
                <tr key={e.name}>
                  <td class="name cut"><Name e={e} open={() => (e.is_dir ? go(e.path) : setViewing(e))} /></td>
                  <td class="num">{e.is_file ? bytes(e.size) : ""}</td>
                  <td class="dim wide">{date(e.mtime * 1000)}</td>
                  <td class="actions"><MenuButton label={"More for " + e.name} items={() => items(e)} /></td>
                </tr>
              ))}
            </tbody>
          </table>
          {list.length > rows && <Empty title={`${list.length - rows} more`}><Button onClick={() => setRows(rows + atOnce)}>Show more</Button></Empty>}
        </div>
      )}
      {viewing && <Viewer id={sb.id} entry={viewing} onClose={() => setViewing(undefined)} />}
    </div>
  );
}

function Name({ e, open }: { e: Entry; open: () => void }) {
  return (
    <button type="button" class="entry" onClick={open} title={e.name}>
      <Icon name={e.is_dir ? "folder" : e.is_file ? "file" : "link"} />
      <PathText text={e.name} />
      {e.target && <span class="dim"> {"\u2192"} <PathText text={e.target} /></span>}
    </button>
  );
}

function Crumbs({ path, go }: { path: string; go: (to: string) => void }) {
  const parts = path.split("/").filter(Boolean);
  return (
    <nav class="crumbs" aria-label="Directory">
      <button type="button" onClick={() => go("/")} aria-label="The root directory">/</button>
      {parts.map((p, i) => {
        const to = "/" + parts.slice(0, i + 1).join("/");
        return (
          <span key={to}>
            {i > 0 && <span class="dim">/</span>}
            <button type="button" aria-current={to === path ? "location" : undefined} onClick={() => go(to)}><PathText text={base(to)} /></button>
          </span>
        );
      })}
    </nav>
  );
}
