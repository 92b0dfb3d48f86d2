// Copies of a sandbox as it is now: kept as a snapshot, or running beside it.
import { useEffect, useState } from "preact/hooks";
import { nameOf } from "./actions.ts";
import { post, vm } from "./api.ts";
import { refresh } from "./fleet.ts";
import { parseObject } from "./format.ts";
import type { Sandbox } from "./types.ts";
import { Button, Dialog, Field, Problem, tell } from "./ui.tsx";
import { version } from "./version.ts";

type Kind = "snapshot" | "fork";

/** The buttons, where the server can do it. */
export function Copies({ sb }: { sb: Sandbox }) {
  const [can, setCan] = useState(false);
  const [open, setOpen] = useState<Kind>();
  useEffect(() => {
    version().then((v) => setCan(!!v.snapshots), () => {});
  }, []);
  if (!can || !["running", "paused"].includes(sb.status)) return null;
  return (
    <>
      <Button onClick={() => setOpen("snapshot")}>Snapshot</Button>
      <Button onClick={() => setOpen("fork")}>Fork</Button>
      {open && <CopyDialog key={open} kind={open} sb={sb} onClose={() => setOpen(undefined)} />}
    </>
  );
}

function CopyDialog({ kind, sb, onClose }: { kind: Kind; sb: Sandbox; onClose: () => void }) {
  const [name, setName] = useState("");
  const [more, setMore] = useState(kind === "fork" ? "1" : "");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      if (kind === "fork") {
        const count = Number(more);
        if (!Number.isInteger(count) || count < 1) throw new Error("How many: a whole number from 1");
        await post(vm(sb.id, "/fork"), { count, ...(name && { name }) });
        await refresh();
        tell(count === 1 ? "Forked" : `Forked ${count} times`);
      } else {
        await post(vm(sb.id, "/snapshot"), { name, metadata: parseObject(more) });
        tell("Snapshot " + name + " made");
      }
      onClose();
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  const text = (value: string, set: (v: string) => void) => ({ class: "input", value, onInput: (e: { currentTarget: { value: string } }) => set(e.currentTarget.value) });
  return (
    <Dialog title={(kind === "fork" ? "Fork " : "Snapshot of ") + nameOf(sb)} onClose={onClose}>
      <form onSubmit={submit}>
        <Field label="Name" hint={kind === "fork" ? "Of the new sandbox; it may have none" : "What is running and the disk are kept under it"}>
          <input {...text(name, setName)} autofocus required={kind === "snapshot"} />
        </Field>
        {kind === "fork"
          ? <Field label="How many"><input {...text(more, setMore)} inputMode="numeric" /></Field>
          : <Field label="Metadata" hint="A JSON object"><textarea {...text(more, setMore)} rows={3} spellcheck={false} placeholder="{}" /></Field>}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button local onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={busy}>{kind === "fork" ? "Fork" : "Make"}</Button>
        </footer>
      </form>
    </Dialog>
  );
}
