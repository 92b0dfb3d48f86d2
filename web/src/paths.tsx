// Paths of a guest, and what a file's name says of it.
import { encodeBytes, vm } from "./api.ts";

export const base = (path: string) => path.slice(path.lastIndexOf("/") + 1);
export const parent = (path: string) => path.slice(0, path.lastIndexOf("/")) || "/";
export const join = (dir: string, name: string) => (name.startsWith("/") ? name : (dir === "/" ? "" : dir) + "/" + name);

/** Resolves a path against a directory: no dots are left, and none leads above the root. */
export function resolve(dir: string, to: string): string {
  const out: string[] = [];
  for (const part of join(dir, to).split("/")) {
    if (part === "..") out.pop();
    else if (part && part !== ".") out.push(part);
  }
  return "/" + out.join("/");
}

export type Kind = "text" | "markdown" | "image";

const images = new Set(["png", "jpg", "jpeg", "gif", "webp", "avif", "bmp", "ico", "svg"]);

export function kindOf(name: string): Kind {
  const ext = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
  return ext === "md" || ext === "markdown" ? "markdown" : images.has(ext) ? "image" : "text";
}

/** A file's bytes. */
export const fileOf = (id: string, path: string) => vm(id, "/file", { path });

export const markdownOf = (id: string, path: string) => "/markdown_viewer?vm_id=" + encodeURIComponent(id) + "&path=" + encodeBytes(path);

/** Lets the browser save a file: nothing of it is held by the page. */
export function download(id: string, path: string) {
  const a = document.createElement("a");
  a.href = vm(id, "/download", { path });
  a.download = base(path);
  a.click();
}

/** Text with what can't be seen, or turns the reading direction, made visible. */
export function PathText({ text }: { text: string }) {
  const parts = text.split(/([\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff])/u);
  if (parts.length === 1) return <>{text}</>;
  return <>{parts.map((p, i) => (i % 2 ? <span key={i} class="odd">{"\\x" + (p.charCodeAt(0) >= 0xdc80 && p.charCodeAt(0) <= 0xdcff ? p.charCodeAt(0) - 0xdc00 : p.charCodeAt(0)).toString(16).padStart(2, "0")}</span> : p))}</>;
}
