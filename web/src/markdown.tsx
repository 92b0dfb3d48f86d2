// Renders a guest's Markdown. The guest is not trusted: marked only takes the
// text apart, and what it finds becomes elements here, one kind at a time. HTML in
// it is shown as text; links lead to the web or to other files of the guest;
// pictures from elsewhere wait for a click, since fetching one tells that it is read.
import type { Token, Tokens } from "marked";
import { lexer } from "marked";
import type { ComponentChildren } from "preact";
import { h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { decode } from "./entities.ts";
import { base, fileOf, kindOf, markdownOf, parent, resolve } from "./paths.tsx";
import { detailsOf } from "./router.ts";
import { LinkButton, Problem } from "./ui.tsx";
import { readText } from "./viewer.tsx";

interface Place {
  id: string;
  path: string;
}

const most = 2 * 1024 * 1024;
const deepest = 40;

export function MarkdownPage(at: Place) {
  const [state, setState] = useState<{ text?: string; cut?: boolean; error?: unknown }>({});
  useEffect(() => {
    document.title = base(at.path) + " · BandSox";
    readText(at.id, at.path, most).then(
      (r) => setState(r.text === undefined ? { error: "Not a text file." } : r),
      (error) => setState({ error }),
    );
  }, []);
  return (
    <>
      <div class="bar">
        <h1 class="cut">{base(at.path)}</h1>
        <span class="mono dim cut">{at.path}</span>
        <span class="grow" />
        <LinkButton icon="download" href={fileOf(at.id, at.path)} download>Download</LinkButton>
        <a class="button" href={detailsOf(at.id, parent(at.path)) + "#files"}>The sandbox</a>
      </div>
      {state.error !== undefined && <Problem error={state.error} />}
      {state.text !== undefined && <article class="panel markdown">{Markdown(state.text, at)}</article>}
      {state.cut && <p class="dim">It is longer: this is its first 2 MiB.</p>}
    </>
  );
}

export function Markdown(text: string, at: Place): ComponentChildren {
  let tokens: Token[];
  try {
    tokens = lexer(text);
  } catch {
    return <pre class="text">{text}</pre>; // nested too deep, say
  }
  return blocks(tokens, at, 0);
}

function blocks(list: Token[] | undefined, at: Place, depth: number): ComponentChildren {
  if (depth > deepest) return list?.map((t) => t.raw).join("");
  return list?.map((t, i) => <Any key={i} t={t} at={at} depth={depth} />);
}

function Any({ t, at, depth }: { t: Token; at: Place; depth: number }): any {
  const inside = () => blocks((t as Tokens.Generic).tokens, at, depth + 1);
  switch (t.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      return h("h" + Math.min(6, Math.max(1, (t as Tokens.Heading).depth)), {}, inside());
    case "paragraph":
      return <p>{inside()}</p>;
    case "blockquote":
      return <blockquote>{inside()}</blockquote>;
    case "hr":
      return <hr />;
    case "code":
      return <pre><code>{(t as Tokens.Code).text}</code></pre>;
    case "list":
      return <List t={t as Tokens.List} at={at} depth={depth} />;
    case "table":
      return <Table t={t as Tokens.Table} at={at} depth={depth} />;
    case "strong":
      return <strong>{inside()}</strong>;
    case "em":
      return <em>{inside()}</em>;
    case "del":
      return <del>{inside()}</del>;
    case "codespan":
      return <code>{(t as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "escape":
      return <>{(t as Tokens.Escape).text}</>;
    case "checkbox":
      return <input type="checkbox" disabled checked={!!(t as Tokens.Generic).checked} />;
    case "link":
      return <Link href={decode((t as Tokens.Link).href)} at={at}>{inside()}</Link>;
    case "image":
      return <Picture t={t as Tokens.Image} at={at} />;
    case "text":
      return (t as Tokens.Text).tokens ? <>{inside()}</> : <>{decode((t as Tokens.Text).text)}</>;
    default: // HTML, and what a later marked may know
      return <span class="raw">{t.raw}</span>;
  }
}

function List({ t, at, depth }: { t: Tokens.List; at: Place; depth: number }) {
  const items = t.items.map((item, i) => (
    <li key={i} class={item.task ? "task" : ""}>
      {item.task && !item.tokens.some((x) => x.type === "checkbox" || (x as Tokens.Generic).tokens?.[0]?.type === "checkbox") && <input type="checkbox" disabled checked={!!item.checked} />}
      {blocks(item.tokens, at, depth + 1)}
    </li>
  ));
  return t.ordered ? <ol start={Number(t.start) || 1}>{items}</ol> : <ul>{items}</ul>;
}

function Table({ t, at, depth }: { t: Tokens.Table; at: Place; depth: number }) {
  const cell = (c: Tokens.TableCell) => blocks(c.tokens, at, depth + 1);
  const side = (i: number) => (t.align[i] === "right" ? "num" : t.align[i] === "center" ? "center" : "");
  return (
    <div class="scroll">
      <table>
        <thead><tr>{t.header.map((c, i) => <th key={i} class={side(i)}>{cell(c)}</th>)}</tr></thead>
        <tbody>{t.rows.map((r, n) => <tr key={n}>{r.map((c, i) => <td key={i} class={side(i)}>{cell(c)}</td>)}</tr>)}</tbody>
      </table>
    </div>
  );
}

const schemes = new Set(["http:", "https:", "mailto:"]);

/** What a reference in a document leads to: the web, or another of the guest's files. */
export function target(href: string, dir: string): { web?: URL; file?: string } {
  const clean = href.replace(/[\x00-\x20\x7f]/g, "");
  if (/^[a-z][a-z0-9+.-]*:/i.test(clean) || /^[\\/]{2}/.test(clean)) {
    try {
      const web = new URL(clean, "https://invalid.invalid");
      return schemes.has(web.protocol) ? { web } : {};
    } catch {
      return {};
    }
  }
  const path = clean.replace(/[?#].*$/, "");
  if (!path) return {};
  try {
    return { file: resolve(dir, decodeURIComponent(path)) };
  } catch {
    return { file: resolve(dir, path) };
  }
}

function Link({ href, at, children }: { href: string; at: Place; children: ComponentChildren }) {
  const { web, file } = target(href, parent(at.path));
  if (web) return <a href={web.href} title={web.href} target="_blank" rel="noopener noreferrer nofollow">{children}</a>;
  if (!file) return <span title={href}>{children}</span>;
  if (kindOf(file) === "markdown") return <a href={markdownOf(at.id, file)} title={file}>{children}</a>;
  return <a href={fileOf(at.id, file)} title={file} download={base(file)}>{children}</a>;
}

function Picture({ t, at }: { t: Tokens.Image; at: Place }) {
  const { web, file } = target(decode(t.href), parent(at.path));
  const alt = decode(t.text);
  if (file) return <img src={fileOf(at.id, file)} alt={alt} loading="lazy" />;
  if (!web || web.protocol === "mailto:") return <span class="raw">{t.raw}</span>;
  // The page's policy lets no picture in from elsewhere: a new tab may fetch it.
  return <a class="remote" href={web.href} target="_blank" rel="noopener noreferrer nofollow" title={web.href}>{alt || "picture"} ({web.host})</a>;
}
