// Figures as people read them.

export function bytes(n: number): string {
  if (!(n >= 0)) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

export const mib = (n: number) => bytes(n * 1024 * 1024).replace(".0 ", " ");

/** The two largest parts of a time. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m " + (s % 60) + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h " + Math.floor((s % 3600) / 60) + "m";
  return Math.floor(s / 86400) + "d " + Math.floor((s % 86400) / 3600) + "h";
}

/** The largest part of a time: for a column. */
export const brief = (seconds: number) => duration(seconds).split(" ")[0]!;

export const date = (ms: number) =>
  new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const time = (ms: number) => new Date(ms).toLocaleTimeString(undefined, { hour12: false });

/** A time as it is typed: 90, 30m, 2h, 1d. Undefined if it can't be meant. */
export function parseDuration(text: string): number | undefined {
  const m = /^\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*$/.exec(text);
  return m ? Number(m[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[m[2] || "s"]! : undefined;
}

/** Lines of KEY=VALUE. Throws a sentence about the first that is none. */
export function parsePairs(text: string): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`"${line.trim()}" is not KEY=VALUE`);
    pairs[line.slice(0, at).trim()] = line.slice(at + 1);
  }
  return pairs;
}

export const showPairs = (m: Record<string, string> = {}) =>
  Object.entries(m).sort().map(([k, v]) => k + "=" + v).join("\n");

/** A JSON object, of nothing for no text. Throws a sentence if it isn't one. */
export function parseObject(text: string): Record<string, unknown> {
  if (!text.trim()) return {};
  let v: unknown;
  try {
    v = JSON.parse(text);
  } catch (e) {
    throw new Error("Not JSON: " + (e as Error).message);
  }
  if (typeof v !== "object" || v === null || Array.isArray(v)) throw new Error('Must be a JSON object: {"key": "value"}');
  return v as Record<string, unknown>;
}

/** A digest as far as anyone reads it. */
export const shortDigest = (d: string) => d.replace(/^sha256:/, "").slice(0, 12);

/** An image's name without what Docker's registry takes for granted. */
export const shortImage = (name: string) => name.replace(/^(index\.)?docker\.io\/(library\/)?/, "");
