// The parts that pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { Failure } from "./api.ts";
import { link } from "./fleet.ts";
import { Icon, type IconName } from "./icons.tsx";

export function Button(p: {
  children?: ComponentChildren;
  icon?: IconName;
  label?: string; // where there is only an icon
  kind?: "primary" | "danger" | "plain";
  type?: "button" | "submit";
  disabled?: boolean;
  busy?: boolean;
  local?: boolean; // works without the server
  name?: string;
  onClick?: (e: MouseEvent) => void;
}) {
  return (
    <button
      type={p.type ?? "button"}
      class={"button " + (p.kind ?? "") + (p.children ? "" : " square")}
      disabled={p.disabled || p.busy || (!p.local && link.value === "lost")}
      aria-busy={p.busy || undefined}
      aria-label={p.label}
      title={p.label}
      onClick={p.onClick}
    >
      {p.icon && <Icon name={p.icon} />}
      {p.children}
    </button>
  );
}

export function LinkButton(p: { href: string; icon: IconName; label?: string; children?: ComponentChildren; download?: boolean; newTab?: boolean }) {
  return (
    <a class={"button" + (p.children ? "" : " square plain")} href={p.href} aria-label={p.label} title={p.label} download={p.download}
      target={p.newTab ? "_blank" : undefined} rel={p.newTab ? "noopener noreferrer" : undefined}>
      <Icon name={p.icon} />
      {p.children}
    </a>
  );
}

/** A dialog; it is there as long as it is drawn. */
export function Dialog(p: { title: string; onClose: () => void; wide?: boolean; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const back = document.activeElement as HTMLElement | null;
    ref.current!.showModal();
    return () => back?.focus?.();
  }, []);
  return (
    <dialog
      ref={ref}
      class={p.wide ? "wide" : ""}
      aria-label={p.title}
      onCancel={(e) => (e.preventDefault(), p.onClose())}
      onClick={(e) => e.target === ref.current && p.onClose()}
    >
      <div class="dialog">
        <header>
          <h2>{p.title}</h2>
          <Button local icon="close" label="Close" kind="plain" onClick={p.onClose} />
        </header>
        {p.children}
      </div>
    </dialog>
  );
}

// One question at a time, asked from anywhere.
interface Question {
  title: string;
  text?: string;
  yes: string;
  danger?: boolean;
  input?: string;
  save?: (text: string) => Promise<unknown>; // the question stays until this has been done
  list?: string[];
  answer: (value: string | undefined) => void;
}
const question = signal<Question | undefined>(undefined);

const ask = (q: Omit<Question, "answer">) =>
  new Promise<string | undefined>((answer) => {
    question.value?.answer(undefined);
    question.value = { ...q, answer };
  });

export const confirm = async (title: string, o: { text?: string; yes: string; danger?: boolean; list?: string[] }) => (await ask({ title, ...o })) !== undefined;
/** Asks for a text and does something with it; a text that won't do can be mended. */
export const prompt = (title: string, input: string, yes: string, save: (text: string) => Promise<unknown>, text?: string) => ask({ title, input, yes, text, save });

export function Questions() {
  const q = question.value;
  return q ? <Ask key={q.title} q={q} /> : null;
}

function Ask({ q }: { q: Question }) {
  const [text, setText] = useState(q.input ?? "");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const end = (v?: string) => {
    question.value = undefined;
    q.answer(v);
  };
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await q.save?.(text);
      end(text);
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  };
  return (
    <Dialog title={q.title} onClose={() => end()}>
      <form method="dialog" onSubmit={submit}>
        {q.text && <p>{q.text}</p>}
        {q.list && <ul class="names">{q.list.map((n) => <li key={n}>{n}</li>)}</ul>}
        {q.input !== undefined && (
          <input class="input" aria-label={q.title} value={text} autofocus onFocus={(e) => e.currentTarget.select()} onInput={(e) => setText(e.currentTarget.value)} />
        )}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button local onClick={() => end()}>Cancel</Button>
          <Button type="submit" busy={busy} kind={q.danger ? "danger" : "primary"}>{q.yes}</Button>
        </footer>
      </form>
    </Dialog>
  );
}

// What has just gone wrong, or right.
interface Note {
  id: number;
  text: string;
  hint?: string;
  bad?: boolean;
}
const notes = signal<Note[]>([]);
let lastNote = 0;

export function tell(text: string, o: { hint?: string; bad?: boolean } = {}) {
  const id = ++lastNote;
  notes.value = [...notes.value.slice(-3), { id, text, ...o }];
  setTimeout(() => dropNote(id), o.bad ? 12_000 : 4000);
}

/** Tells of an error, with what to do about it. */
export function tellError(e: unknown) {
  if (e instanceof DOMException && e.name === "AbortError") return;
  tell(e instanceof Error ? e.message : String(e), { bad: true, hint: e instanceof Failure ? e.hint : undefined });
}

/** Runs what a button does, and tells if it fails. */
export const attempt = (f: () => Promise<unknown>) => () => void f().catch(tellError);

const dropNote = (id: number) => (notes.value = notes.value.filter((n) => n.id !== id));

export function Notes() {
  return (
    <div class="notes" role="status" aria-live="polite">
      {notes.value.map((n) => (
        <div key={n.id} class={"note" + (n.bad ? " bad" : "")}>
          <div>
            <div>{n.text}</div>
            {n.hint && <div class="dim">{n.hint}</div>}
          </div>
          <Button local icon="close" label="Dismiss" kind="plain" onClick={() => dropNote(n.id)} />
        </div>
      ))}
    </div>
  );
}

export function Field(p: { label: string; hint?: string; error?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{p.label}</span>
      {p.children}
      {p.error ? <small class="bad" role="alert">{p.error}</small> : p.hint && <small class="dim">{p.hint}</small>}
    </label>
  );
}

export function Problem({ error, children }: { error: unknown; children?: ComponentChildren }) {
  return (
    <div class="problem" role="alert">
      <p>{error instanceof Error ? error.message : String(error)}</p>
      {error instanceof Failure && error.hint && <p class="dim">{error.hint}</p>}
      {children}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p>{title}</p>
      {children}
    </div>
  );
}
