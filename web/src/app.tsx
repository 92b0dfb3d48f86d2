// The application: a frame with one page in it.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ComponentType } from "preact";
import { Details } from "./details.tsx";
import { watchFleet, link } from "./fleet.ts";
import { FleetPage } from "./fleet_page.tsx";
import { Icon, Logo } from "./icons.tsx";
import { askWho, Login, LogoutButton } from "./login.tsx";
import { Menu } from "./menu.tsx";
import { route, takeLinks } from "./router.ts";
import { ThemeButton } from "./theme.tsx";
import { Empty, Notes, Problem, Questions } from "./ui.tsx";

/** A page whose code is fetched when it is first shown. */
function later<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | undefined;
  return function Later(p: P) {
    const [, drawn] = useState(0);
    const [error, setError] = useState<unknown>();
    useEffect(() => {
      if (!loaded) load().then((c) => ((loaded = c), drawn(1)), setError);
    }, []);
    if (error) return <Problem error="This page's code can't be fetched. Was the server upgraded? Reload." />;
    const Page = loaded;
    return Page ? <Page {...p} /> : null;
  };
}

const TerminalPage = later<{ id: string }>(() => import("./terminal.tsx").then((m) => m.TerminalPage));
const MarkdownPage = later<{ id: string; path: string }>(() => import("./markdown.tsx").then((m) => m.MarkdownPage));

function Page() {
  const { path, query } = route.value;
  const id = query.get("id") ?? "";
  switch (path) {
    case "/":
      return <FleetPage />;
    case "/vm_details":
      return <Details key={id} id={id} />;
    case "/terminal":
      return <TerminalPage key={id} id={id} />;
    case "/markdown_viewer":
      return <MarkdownPage key={location.search} id={query.get("vm_id") ?? ""} path={query.get("path") ?? ""} />;
    default:
      return <Lost title="There is no such page." />;
  }
}

function Lost({ title }: { title: string }) {
  useEffect(() => void (document.title = "No such page \u00b7 BandSox"), []);
  return <Empty title={title}><a class="button" href="/">All sandboxes</a></Empty>;
}

const linkWords = { connecting: "Connecting", live: "Live", polling: "Asking every 2 s", lost: "The server doesn't answer" };

function App() {
  if (route.value.path === "/login") return <Login next={route.value.query.get("next") ?? null} />;
  return (
    <>
      <a class="skip" href="#main">To the content</a>
      <header class="top">
        <a class="brand" href="/"><Logo />BandSox</a>
        <nav aria-label="Pages">
          <a href="/" aria-current={route.value.path === "/" ? "page" : undefined}>Sandboxes</a>
          <a href="/docs" target="_blank" rel="noopener">API<Icon name="external" /></a>
        </nav>
        <span class={"link " + link.value} role="status"><i aria-hidden="true" />{linkWords[link.value]}</span>
        <ThemeButton />
        <LogoutButton />
      </header>
      <main id="main" class={link.value} tabIndex={-1}><Page /></main>
      <Menu />
      <Questions />
      <Notes />
    </>
  );
}

takeLinks();
if (location.pathname !== "/login") {
  askWho();
  watchFleet();
}
render(<App />, document.getElementById("app")!);
