// The password, where keys are needed.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { failure, get, post } from "./api.ts";
import { Logo } from "./icons.tsx";
import { Button, Field, tellError } from "./ui.tsx";

/** Where to go after the login: a path of ours and nothing else. */
export function safeNext(next: string | null): string {
  if (!next || !next.startsWith("/")) return "/";
  try {
    const url = new URL(next, location.origin);
    return url.origin === location.origin && url.pathname !== "/login" ? url.pathname + url.search + url.hash : "/";
  } catch {
    return "/";
  }
}

export function Login({ next }: { next: string | null }) {
  const [password, setPassword] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Log in · BandSox";
    // Whoever is known already, or needs not be, has nothing to do here.
    get<{ authenticated: boolean }>("/api/auth/check").then((c) => c.authenticated && location.replace(safeNext(next)), () => {});
  }, []);
  const submit = async (e: Event) => {
    e.preventDefault();
    setBusy(true);
    setError("");
    try {
      const answer = await fetch("/api/auth/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ password }) });
      if (answer.ok || answer.status === 404) { // 404: no password is needed
        location.replace(safeNext(next));
        return;
      }
      const f = failure(answer.status, await answer.text());
      const wait = answer.headers.get("Retry-After");
      setError(f.message + (wait ? ` Try again in ${wait} s.` : ""));
    } catch {
      setError("The server can't be reached.");
    }
    setBusy(false);
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <div class="brand"><Logo />BandSox</div>
        <Field label="Password" error={error}>
          <input class="input" type="password" name="password" autocomplete="current-password" autofocus required value={password} onInput={(e) => setPassword(e.currentTarget.value)} />
        </Field>
        <Button type="submit" kind="primary" busy={busy}>Log in</Button>
        <p class="dim">The administrator's password, as <code>bandsox auth init</code> printed it. <code>bandsox auth set-password</code> changes it.</p>
      </form>
    </main>
  );
}

/** Who the server takes us for; undefined until it has said so. */
const who = signal<{ kind?: string } | undefined>(undefined);

let asked: Promise<unknown> = Promise.resolve();

export function askWho() {
  asked = get<{ kind?: string }>("/api/auth/whoami").then((w) => (who.value = w), () => {});
}

/** Whether a WebSocket needs a ticket: who needed no credential until here needs none there. */
export async function needsTicket(): Promise<boolean> {
  await asked;
  return ["session", "key"].includes(who.peek()?.kind ?? "session");
}

/** There for those who came in with the password. */
export function LogoutButton() {
  if (who.value?.kind !== "session") return null;
  const logout = async () => {
    try {
      await post("/api/auth/logout");
      location.assign("/login");
    } catch (e) {
      tellError(e);
    }
  };
  return <Button icon="exit" kind="plain" label="Log out" onClick={() => void logout()} />;
}
