// A shell on a terminal, by xterm.js. The shell outlives its page for a while:
// the address names its process, so that a reload, or another browser, attaches
// to it again and sees what is kept of its output. One that nobody comes back to
// is hung up by the guest when it has nothing to do.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { useEffect, useRef, useState } from "preact/hooks";
import { nameOf } from "./actions.ts";
import { post, vm } from "./api.ts";
import { NoSandbox, useSandbox } from "./details.tsx";
import { needsTicket } from "./login.tsx";
import { detailsOf, go, route, terminalOf } from "./router.ts";
import { Status } from "./status.tsx";
import { isDark } from "./theme.tsx";
import type { Sandbox } from "./types.ts";
import { Button } from "./ui.tsx";

interface Exit {
  exit_code: number;
  signal?: number;
  oom?: boolean;
  timed_out?: boolean;
}

type Phase =
  | { is: "connecting" | "open" }
  | { is: "broken"; text: string } // and tried again
  | { is: "ended"; text: string; bad?: boolean };

const dark = { background: "#101114", foreground: "#e4e6ea", cursor: "#7c93f5", cursorAccent: "#101114", selectionBackground: "#3a4a86" };
const light = {
  background: "#ffffff", foreground: "#1c1f24", cursor: "#3b5bdb", cursorAccent: "#ffffff", selectionBackground: "#cdd7fb",
  yellow: "#8a6400", brightYellow: "#9a7000", green: "#1f7a43", brightGreen: "#1f8f4e", cyan: "#0b7285", brightCyan: "#0c8599", white: "#5c636e", brightWhite: "#30343b",
};

function words(e: Exit): string {
  if (e.oom) return "It was killed for want of memory.";
  if (e.timed_out) return "Its time was over.";
  return e.signal ? `It was ended by signal ${e.signal}.` : `It ended with exit code ${e.exit_code}.`;
}

/** One program on one terminal, for as long as it runs. */
class Session {
  private socket?: WebSocket;
  private seen = 0; // the offset of the next byte
  private tries = 0;
  private over = false;
  private timer?: ReturnType<typeof setTimeout>;

  constructor(private id: string, private process: string | null, private term: Terminal, private tell: (p: Phase) => void, private found: (process: string) => void) {
    this.connect();
  }

  private async connect() {
    this.tell({ is: "connecting" });
    const { cols, rows } = this.term;
    const query: Record<string, string | number> = { cols, rows, encoding: "binary", hello: "true", keep: "true", linger: 60 };
    if (this.process) Object.assign(query, { process: this.process, offset: this.seen });
    try {
      // A WebSocket shows no cookie; and what is in a URL ends up in logs, so it
      // is a ticket for this one.
      if (await needsTicket()) query.ticket = (await post<{ ticket: string }>("/api/auth/ticket")).ticket;
    } catch {
      // the socket will be refused, and say so
    }
    if (this.over) return;
    const socket = new WebSocket(vm(this.id, "/terminal", query).replace(/^/, location.origin.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (m) => (typeof m.data === "string" ? this.frame(m.data) : this.output(new Uint8Array(m.data)));
    socket.onclose = (e) => this.closed(e);
  }

  private output(bytes: Uint8Array) {
    this.seen += bytes.length;
    this.term.write(bytes);
  }

  private frame(text: string) {
    const f = JSON.parse(text);
    if (f.type === "hello") {
      this.process = f.process;
      this.seen = f.offset;
      this.tries = 0;
      if (f.lost > 0) this.term.write(`\x1b[2m[${f.lost} bytes before this are no longer kept]\x1b[0m\r\n`);
      this.found(f.process);
      this.tell({ is: "open" });
    } else if (f.type === "exit") this.end(words(f), f.exit_code !== 0);
    else if (f.type === "error") this.end([f.error, f.hint].filter(Boolean).join(" "), true);
  }

  private closed(e: CloseEvent) {
    if (this.over) return;
    if (e.code === 4001) return location.reload(); // which leads to the login page
    if (e.code === 4004 || e.code === 4000) return this.end(e.reason || "There is no such sandbox, or it doesn't run.", true);
    if (e.code === 1000) return this.end("The program has ended.");
    if (!this.process && this.tries > 2) return this.end("The server can't be reached.", true);
    const wait = Math.min(10, 2 ** this.tries++ / 2);
    this.tell({ is: "broken", text: "The connection broke. Trying again; the program goes on." });
    this.timer = setTimeout(() => void this.connect(), wait * 1000);
  }

  private end(text: string, bad = false) {
    this.over = true;
    this.tell({ is: "ended", text, bad });
  }

  send(data: Uint8Array<ArrayBuffer>) {
    // In pieces, so that a large paste is no frame that the server refuses.
    for (let i = 0; i < data.length; i += 16384) if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(data.subarray(i, i + 16384));
  }

  resize(cols: number, rows: number) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "resize", cols, rows }));
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }
}

export function TerminalPage({ id }: { id: string }) {
  const sb = useSandbox(id);
  return sb === null ? <NoSandbox /> : sb ? <Screen key={sb.id} id={id} sb={sb} /> : <div class="panel skeleton" aria-busy="true" />;
}

function Screen({ id, sb }: { id: string; sb: Sandbox }) {
  const box = useRef<HTMLDivElement>(null);
  const [phase, setPhase] = useState<Phase>({ is: "connecting" });
  const [round, setRound] = useState(0);
  const term = useRef<Terminal | undefined>(undefined);
  const theme = isDark() ? dark : light;
  useEffect(() => {
    document.title = nameOf(sb) + " · terminal · BandSox";
  }, [sb]);
  useEffect(() => {
    if (term.current) term.current.options.theme = theme;
    box.current!.style.setProperty("--term", theme.background);
  }, [theme]);
  useEffect(() => {
    const t = new Terminal({
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"), fontSize: 13, theme, scrollback: 10_000, cursorBlink: true,
      linkHandler: { activate: () => {} }, // what a guest prints opens nothing
    });
    const fit = new FitAddon();
    t.loadAddon(fit);
    t.open(box.current!);
    fit.fit();
    t.focus();
    term.current = t;
    const s = new Session(id, route.peek().query.get("process") ?? null, t, setPhase, (process) => go(terminalOf(id) + "&process=" + encodeURIComponent(process), true));
    const encoder = new TextEncoder();
    t.onData((text) => s.send(encoder.encode(text)));
    t.onBinary((text) => s.send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    t.onResize(({ cols, rows }) => s.resize(cols, rows));
    const watch = new ResizeObserver(() => fit.fit());
    watch.observe(box.current!);
    return () => {
      watch.disconnect();
      s.close();
      t.dispose();
      term.current = undefined;
    };
  }, [id, round]);
  const fresh = () => {
    go(terminalOf(id), true);
    setRound(round + 1);
  };
  return (
    <div class="terminal-page">
      <div class="bar">
        <h1><a href={detailsOf(id)}>{nameOf(sb)}</a></h1>
        <Status sb={sb} />
        <span class="dim" role="status">{phase.is === "connecting" ? "Connecting" : phase.is === "broken" ? phase.text : ""}</span>
        <span class="grow" />
        <Button icon="plus" onClick={fresh}>New shell</Button>
      </div>
      <div ref={box} class="screen" />
      {phase.is === "ended" && (
        <div class={"ended" + (phase.bad ? " bad" : "")} role="alert">
          <span>{phase.text}</span>
          <span class="grow" />
          <Button icon="restart" kind="primary" onClick={fresh}>New shell</Button>
        </div>
      )}
    </div>
  );
}
