// The server, asked as any other client asks it.

/** What the server refused, or why it couldn't be asked. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly status = 0,
    readonly code = "",
    readonly hint = "",
  ) {
    super(message);
  }
}

interface Problem {
  loc: (string | number)[];
  msg: string;
}

/** Reads the body of an answer that is no success. */
export function failure(status: number, body: string): Failure {
  try {
    const e = JSON.parse(body) as { detail: string | Problem[]; code?: string; hint?: string };
    const text = Array.isArray(e.detail)
      ? e.detail.map((p) => [p.loc.filter((l) => l !== "body").join("."), p.msg].filter(Boolean).join(": ")).join("; ")
      : e.detail;
    if (text) return new Failure(text, status, e.code, e.hint);
  } catch {
    // not ours: something in between answered
  }
  return new Failure(body.slice(0, 200) || `the server answered ${status}`, status);
}

/** Sends a request; any body that isn't a string or a Blob goes as JSON. */
export async function send(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  let payload: BodyInit | undefined;
  if (body instanceof Blob || typeof body === "string") payload = body;
  else if (body !== undefined) {
    payload = JSON.stringify(body);
    headers.set("Content-Type", "application/json");
  }
  let answer: Response;
  try {
    answer = await fetch(path, { ...init, method, headers, body: payload });
  } catch (e) {
    if (init.signal?.aborted) throw e;
    throw new Failure("The server can't be reached.", 0, "unavailable");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) toLogin();
  throw failure(answer.status, await answer.text());
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send("GET", path, undefined, { signal })).json() as Promise<T>;
}

export async function post<T>(path: string, body?: unknown): Promise<T> {
  return (await send("POST", path, body)).json() as Promise<T>;
}

/** Leaves for the login page, which comes back here. */
export function toLogin() {
  if (location.pathname === "/login") return;
  const here = location.pathname + location.search + location.hash;
  location.replace("/login" + (here === "/" ? "" : "?next=" + encodeURIComponent(here)));
}

/** The path of a route about one sandbox. */
export function vm(id: string, rest = "", query: Record<string, string | number> = {}): string {
  const q = Object.entries(query).map(([k, v]) => k + "=" + encodeBytes(String(v)));
  return "/api/vms/" + encodeURIComponent(id) + rest + (q.length ? "?" + q.join("&") : "");
}

/**
 * encodeURIComponent, but for names of files that aren't UTF-8: their bytes
 * come as lone surrogates, U+DC80 to U+DCFF, and go as bytes again.
 */
export function encodeBytes(text: string): string {
  let out = "";
  for (const c of text) {
    const code = c.codePointAt(0)!;
    if (code >= 0xdc80 && code <= 0xdcff) out += "%" + (code - 0xdc00).toString(16).toUpperCase();
    else if (code >= 0xd800 && code <= 0xdfff) out += "%EF%BF%BD";
    else out += encodeURIComponent(c);
  }
  return out;
}

/** What encodeBytes was given, of what it made. */
export function decodeBytes(text: string): string {
  return text.replace(/%[cd].%[89ab].|%e.(?:%[89ab].){2}|%f.(?:%[89ab].){3}|%[0-9a-f]{2}/gi, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run.replace(/%(..)/g, (_, hex) => String.fromCharCode(0xdc00 + parseInt(hex, 16)));
    }
  });
}

/** One event of an answer that is a stream of them. */
export interface ServerEvent {
  type: string;
  data: unknown;
}

/** Reads a stream of events that was asked for by POST, which EventSource can't. */
export async function* events(answer: Response): AsyncGenerator<ServerEvent> {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const block = rest.slice(0, end);
      rest = rest.slice(end + 2);
      let type = "message";
      const data: string[] = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) type = line.slice(6).trim();
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      if (data.length) yield { type, data: JSON.parse(data.join("\n")) };
    }
  }
}
