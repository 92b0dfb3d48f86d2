// Snapshots, where the server has them.
import { useEffect, useState } from "preact/hooks";
import { get, post, send } from "./api.ts";
import { onEvent, refreshOne } from "./fleet.ts";
import { date } from "./format.ts";
import { MetadataDialog } from "./metadata.tsx";
import { MenuButton } from "./menu.tsx";
import { detailsOf, go } from "./router.ts";
import type { Snapshot } from "./types.ts";
import { attempt, Button, confirm, prompt } from "./ui.tsx";
import { version } from "./version.ts";

const path = (s: Snapshot, rest = "") => "/api/snapshots/" + encodeURIComponent(s.id) + rest;
const nameOf = (s: Snapshot) => s.name || s.id;

export function Snapshots() {
  const [list, setList] = useState<Snapshot[]>();
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [editing, setEditing] = useState<Snapshot>();
  const load = () => get<Snapshot[]>("/api/snapshots").then((l) => setList(Array.isArray(l) ? l : undefined), () => setList(undefined));
  useEffect(() => {
    let stop = () => {};
    version().then((v) => {
      if (!v.snapshots) return;
      void load();
      stop = onEvent((e) => e.type.startsWith("snapshot") && void load());
    }, () => {}); // a server that can't be reached is told above
    return () => stop();
  }, []);
  if (!list?.length) return null;
  const chosen = list.filter((s) => selected.has(s.id));
  const remove = async (some: Snapshot[]) => {
    const what = some.length === 1 ? nameOf(some[0]!) : `${some.length} snapshots`;
    if (!(await confirm(`Delete ${what}?`, { yes: "Delete", danger: true, list: some.length > 1 ? some.map(nameOf) : undefined }))) return;
    try {
      for (const s of some) await send("DELETE", path(s));
      setSelected(new Set());
    } finally {
      await load();
    }
  };
  const restore = async (s: Snapshot) => {
    const save = async (name: string) => {
      const { id } = await post<{ id: string }>(path(s, "/restore"), name ? { name } : {});
      await refreshOne(id);
      go(detailsOf(id));
    };
    await prompt("Restore " + nameOf(s), "", "Restore", save, "The name of the new sandbox; it may have none.");
  };
  const rename = async (s: Snapshot) => {
    const save = async (name: string) => {
      await send("PUT", path(s, "/name"), { name });
      await load();
    };
    await prompt("Rename " + nameOf(s), s.name ?? "", "Rename", save);
  };
  const toggle = (id: string) => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    setSelected(next);
  };
  return (
    <section aria-label="Snapshots">
      <div class="bar">
        <h2>Snapshots</h2>
        <span class="dim counts">{list.length}</span>
        <span class="grow" />
        {chosen.length > 0 && <Button icon="trash" kind="danger" onClick={attempt(() => remove(chosen))}>Delete {chosen.length}</Button>}
      </div>
      {list.length > 0 && (
        <div class="panel scroll">
          <table class="fleet">
            <thead><tr><th class="check"><span class="hidden">Select</span></th><th>Name</th><th>Status</th><th class="wide">Made</th><th class="w-actions"><span class="hidden">Actions</span></th></tr></thead>
            <tbody>
              {list.map((s) => (
                <tr key={s.id}>
                  <td class="check"><input type="checkbox" aria-label={"Select " + nameOf(s)} checked={selected.has(s.id)} onChange={() => toggle(s.id)} /></td>
                  <td class="name">{nameOf(s)}</td>
                  <td>{s.status ?? "whole"}</td>
                  <td class="wide">{s.created_at ? date(s.created_at * 1000) : ""}</td>
                  <td class="actions">
                    <Button icon="play" kind="plain" label={"Restore " + nameOf(s)} onClick={attempt(() => restore(s))} />
                    <MenuButton label={"More for " + nameOf(s)} items={() => [
                      { text: "Restore", icon: "play", do: attempt(() => restore(s)) },
                      { text: "Rename", icon: "pencil", do: attempt(() => rename(s)) },
                      { text: "Edit metadata", icon: "file", do: () => setEditing(s) },
                      { text: "Delete", icon: "trash", danger: true, do: attempt(() => remove([s])) },
                    ]} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {editing && <MetadataDialog title={"Metadata of " + nameOf(editing)} value={editing.metadata ?? {}} onClose={() => setEditing(undefined)}
        save={async (metadata) => (await send("PUT", path(editing, "/metadata"), { metadata }), await load())} />}
    </section>
  );
}
