// An editor for what is kept as text of a form: JSON, or KEY=VALUE lines.
import { useState } from "preact/hooks";
import { parseObject } from "./format.ts";
import { Button, Dialog, Field, Problem } from "./ui.tsx";

/** Edits text that parse makes a value of; save is called with it. */
export function EditDialog<T>(p: { title: string; label: string; hint?: string; text: string; parse: (text: string) => T; save: (v: T) => Promise<unknown>; onClose: () => void }) {
  const [text, setText] = useState(p.text);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  let value: T | undefined, wrong = "";
  try {
    value = p.parse(text);
  } catch (e) {
    wrong = (e as Error).message;
  }
  const submit = async (e: Event) => {
    e.preventDefault();
    if (wrong) return;
    setBusy(true);
    try {
      await p.save(value!);
      p.onClose();
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <Dialog title={p.title} wide onClose={p.onClose}>
      <form onSubmit={submit}>
        <Field label={p.label} hint={p.hint} error={wrong}>
          <textarea class="input mono" rows={12} spellcheck={false} autofocus value={text} aria-invalid={!!wrong} onInput={(e) => setText(e.currentTarget.value)} />
        </Field>
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button local onClick={p.onClose}>Cancel</Button>
          <Button type="submit" kind="primary" disabled={!!wrong} busy={busy}>Save</Button>
        </footer>
      </form>
    </Dialog>
  );
}

export function MetadataDialog(p: { title: string; value: Record<string, unknown>; save: (v: Record<string, unknown>) => Promise<unknown>; onClose: () => void }) {
  return <EditDialog title={p.title} label="Metadata" hint="A JSON object; it takes the place of what is there" text={JSON.stringify(p.value, null, 2)} parse={parseObject} save={p.save} onClose={p.onClose} />;
}
