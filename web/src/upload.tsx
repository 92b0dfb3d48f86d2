// Files on their way up. fetch tells no progress of what it sends; XMLHttpRequest does.
import { signal } from "@preact/signals";
import { failure, toLogin, vm } from "./api.ts";
import { bytes } from "./format.ts";
import { join } from "./paths.tsx";
import { Button, tellError } from "./ui.tsx";

interface Upload {
  key: number;
  name: string;
  done: number;
  total: number;
  abort: () => void;
}

const uploads = signal<Upload[]>([]);
let last = 0;

/** Sends files into a directory, one after another; returns how many got there. */
export async function uploadAll(id: string, dir: string, files: File[]): Promise<number> {
  let n = 0;
  for (const f of files) {
    try {
      await upload(id, join(dir, f.name), f);
      n++;
    } catch (e) {
      tellError(e);
    }
  }
  return n;
}

function upload(id: string, path: string, file: File): Promise<void> {
  const x = new XMLHttpRequest();
  const key = ++last;
  const set = (done: number) => (uploads.value = uploads.value.map((u) => (u.key === key ? { ...u, done } : u)));
  uploads.value = [...uploads.value, { key, name: file.name, done: 0, total: file.size, abort: () => x.abort() }];
  return new Promise<void>((ok, fail) => {
    x.upload.onprogress = (e) => set(e.loaded);
    x.onload = () => {
      if (x.status === 401) toLogin();
      if (x.status < 300) ok();
      else fail(failure(x.status, x.responseText));
    };
    x.onerror = () => fail(new Error(`${file.name}: the connection broke`));
    x.onabort = () => fail(new DOMException("", "AbortError"));
    x.open("PUT", vm(id, "/file", { path }));
    x.setRequestHeader("Content-Type", "application/octet-stream");
    x.send(file);
  }).finally(() => (uploads.value = uploads.value.filter((u) => u.key !== key)));
}

export function Uploads() {
  if (uploads.value.length === 0) return null;
  return (
    <ol class="steps">
      {uploads.value.map((u) => (
        <li key={u.key}>
          <span class="cut">{u.name}</span>
          <progress max={u.total || 1} value={u.done} />
          <span class="num dim">{bytes(u.done)} / {bytes(u.total)}</span>
          <Button icon="close" kind="plain" label={"Stop the upload of " + u.name} onClick={u.abort} />
        </li>
      ))}
    </ol>
  );
}
