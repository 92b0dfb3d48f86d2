// A look at one file, without taking it along.
import { useEffect, useState } from "preact/hooks";
import { send } from "./api.ts";
import { bytes } from "./format.ts";
import { download, fileOf, kindOf, markdownOf } from "./paths.tsx";
import type { Entry } from "./types.ts";
import { Button, Dialog, LinkButton, Problem } from "./ui.tsx";

const most = 512 * 1024;

/** The first part of a file as text; undefined if it is none. */
export async function readText(id: string, path: string, limit = most): Promise<{ text?: string; cut: boolean }> {
  const abort = new AbortController();
  const answer = await send("GET", fileOf(id, path), undefined, { signal: abort.signal });
  const reader = answer.body!.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let n = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    n += value.length;
    if (n > limit) {
      abort.abort();
      break;
    }
  }
  const all = new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, limit);
  if (all.subarray(0, 8192).includes(0)) return { cut: false };
  return { text: new TextDecoder().decode(all), cut: n > limit };
}

export function Viewer({ id, entry, onClose }: { id: string; entry: Entry; onClose: () => void }) {
  const kind = kindOf(entry.name);
  const [state, setState] = useState<{ text?: string; cut?: boolean; binary?: boolean; error?: unknown }>({});
  useEffect(() => {
    if (kind === "image") return;
    readText(id, entry.path).then(
      (r) => setState({ ...r, binary: r.text === undefined }),
      (error) => setState({ error }),
    );
  }, [entry.path]);
  return (
    <Dialog title={entry.name} wide onClose={onClose}>
      <div class="view">
        {kind === "image" && (state.error ? <Problem error={state.error} /> : <img src={fileOf(id, entry.path)} alt={entry.name} onError={() => setState({ error: "Not a picture that can be shown." })} />)}
        {kind !== "image" && state.error !== undefined && <Problem error={state.error} />}
        {state.binary && <p class="dim">Not a text file.</p>}
        {state.text !== undefined && <pre class="text" tabIndex={0}>{state.text}</pre>}
      </div>
      <footer>
        <span class="dim">{bytes(entry.size)}{state.cut && `, the first ${bytes(most)} shown`}</span>
        <span class="grow" />
        {kind === "markdown" && <LinkButton icon="file" href={markdownOf(id, entry.path)}>Read as a page</LinkButton>}
        <Button icon="download" onClick={() => download(id, entry.path)}>Download</Button>
      </footer>
    </Dialog>
  );
}
