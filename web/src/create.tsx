// The dialog that makes a sandbox and shows how far that is.
import { useEffect, useRef, useState } from "preact/hooks";
import { events, Failure, get, send } from "./api.ts";
import { newest, refreshOne } from "./fleet.ts";
import { bytes, parseDuration, parseObject, parsePairs } from "./format.ts";
import { detailsOf, go } from "./router.ts";
import { Button, Dialog, Field, Problem, tell } from "./ui.tsx";

interface Step {
  what: string;
  done: number;
  total: number;
}

const empty = { image: "", name: "", vcpu: "1", mem: "512", disk: "4096", ttl: "", env: "", labels: "", metadata: "" };
type Form = typeof empty;

/** What each field makes of its text; a field that can't be meant throws a sentence. */
const readers: { [K in keyof Form]?: (text: string) => unknown } = {
  image: (t) => need(t.trim(), "An image is needed, such as alpine or python:3.12-slim"),
  vcpu: (t) => whole(t, 1),
  mem: (t) => whole(t, 1),
  disk: (t) => whole(t, 1),
  ttl: (t) => (t.trim() ? need(parseDuration(t), "A time: 90, 30m, 2h, 1d") : undefined),
  env: parsePairs,
  labels: parsePairs,
  metadata: parseObject,
};

function need<T>(v: T | undefined | "", sentence: string): T {
  if (v === undefined || v === "") throw new Error(sentence);
  return v as T;
}

function whole(t: string, least: number): number {
  const n = Number(t);
  if (!Number.isInteger(n) || n < least) throw new Error("A whole number from " + least);
  return n;
}

function read(form: Form): { values: Record<string, any>; errors: Partial<Form> } {
  const values: Record<string, any> = { ...form };
  const errors: Partial<Form> = {};
  for (const [k, f] of Object.entries(readers) as [keyof Form, (t: string) => unknown][]) {
    try {
      values[k] = f(form[k]);
    } catch (e) {
      errors[k] = (e as Error).message;
    }
  }
  return { values, errors };
}

/** What images there may be: those the server has, and those in use. */
function useImages(): string[] {
  const [list, setList] = useState<string[]>([]);
  useEffect(() => {
    get<{ refs?: string[] }[]>("/api/images").then((images) => setList(images.flatMap((i) => i.refs ?? [])), () => {}); // those in use are enough
  }, []);
  return [...new Set([...list, ...newest.value.map((sb) => sb.image)])];
}

export function CreateDialog({ onClose }: { onClose: () => void }) {
  const [form, setForm] = useState<Form>({ ...empty, image: newest.peek()[0]?.image ?? "" });
  const [tried, setTried] = useState(false);
  const [steps, setSteps] = useState<Step[]>();
  const [error, setError] = useState<unknown>();
  const abort = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => abort.current?.abort(), []);
  const { values, errors } = read(form);
  const wrong = (k: keyof Form) => (tried || form[k] !== empty[k] ? errors[k] : undefined);
  const text = (k: keyof Form) => ({ class: "input", name: k, value: form[k], onInput: (e: { currentTarget: { value: string } }) => setForm({ ...form, [k]: e.currentTarget.value }) });
  const images = useImages();

  const submit = async (e: Event) => {
    e.preventDefault();
    setTried(true);
    if (Object.keys(errors).length) return;
    setError(undefined);
    setSteps([]);
    abort.current = new AbortController();
    try {
      const id = await create(values, abort.current.signal, setSteps);
      void refreshOne(id);
      tell(`${form.name || id} is running`);
      abort.current = undefined;
      onClose();
      if (form.name === "") go(detailsOf(id));
    } catch (e) {
      if (!abort.current?.signal.aborted) setError(e);
      setSteps(undefined);
    }
  };

  return (
    <Dialog title="Create a sandbox" wide onClose={onClose}>
      <form onSubmit={submit} noValidate>
        <fieldset disabled={!!steps}>
          <div class="grid">
            <div class="two"><Field label="Image" error={wrong("image")}><input {...text("image")} list="images" autofocus autocomplete="off" spellcheck={false} placeholder="alpine" /></Field></div>
            <div class="two"><Field label="Name" hint="May stand wherever an id can"><input {...text("name")} autocomplete="off" spellcheck={false} placeholder="none" /></Field></div>
            <Field label="CPUs" error={wrong("vcpu")}><input {...text("vcpu")} inputMode="numeric" /></Field>
            <Field label="Memory, MiB" error={wrong("mem")}><input {...text("mem")} inputMode="numeric" /></Field>
            <Field label="Disk, MiB" error={wrong("disk")}><input {...text("disk")} inputMode="numeric" /></Field>
            <Field label="Time to live" error={wrong("ttl")}><input {...text("ttl")} placeholder="for good" /></Field>
            <div class="two"><Field label="Environment" hint="KEY=VALUE, one a line" error={wrong("env")}><textarea {...text("env")} rows={3} spellcheck={false} /></Field></div>
            <div class="two"><Field label="Labels" hint="KEY=VALUE, one a line" error={wrong("labels")}><textarea {...text("labels")} rows={3} spellcheck={false} /></Field></div>
            <div class="four"><Field label="Metadata" hint="A JSON object of your own" error={wrong("metadata")}><textarea {...text("metadata")} rows={2} spellcheck={false} placeholder="{}" /></Field></div>
          </div>
          <datalist id="images">{images.map((i) => <option key={i} value={i} />)}</datalist>
        </fieldset>
        {steps && <Steps steps={steps} />}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" kind="primary" busy={!!steps}>{steps ? "Creating" : "Create"}</Button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Asks for it and follows how far it is; returns its id. */
async function create(v: Record<string, any>, signal: AbortSignal, show: (s: Step[]) => void): Promise<string> {
  const body = {
    image: v.image, name: v.name.trim() || undefined, vcpu: v.vcpu, mem_mib: v.mem, disk_size_mib: v.disk,
    ttl: v.ttl, env_vars: v.env, labels: v.labels, metadata: v.metadata,
  };
  const answer = await send("POST", "/api/vms", body, { signal, headers: { Accept: "text/event-stream" } });
  if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) return (await answer.json()).id;
  const steps = new Map<string, Step>();
  for await (const e of events(answer)) {
    const data = e.data as any;
    if (e.type === "created") return data.id;
    if (e.type === "error") throw new Failure(String(data.detail), 0, data.code, data.hint);
    if (e.type === "progress") {
      steps.set(data.what, data);
      show([...steps.values()]);
    }
  }
  throw new Failure("The server broke off. The sandbox may be there all the same.");
}

function Steps({ steps }: { steps: Step[] }) {
  return (
    <ol class="steps" aria-live="polite">
      {steps.length === 0 && <li><span>Asking the server</span><progress /></li>}
      {steps.map((s) => (
        <li key={s.what}>
          <span class="cut">{s.what}</span>
          {s.total > 0 ? <progress max={s.total} value={s.done} /> : <progress />}
          <span class="num dim">{s.total > 4096 ? `${bytes(s.done)} / ${bytes(s.total)}` : s.done > 4096 ? bytes(s.done) : ""}</span>
        </li>
      ))}
    </ol>
  );
}
