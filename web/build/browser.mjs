// Walks through the pages in a real browser and fails with what it found wrong.
// Run by TestBrowser: node browser.mjs OPEN LOCKED IMAGE FILES PORT CHROMIUM, where OPEN
// and LOCKED are two servers, the second of which wants a password, each with
// a sandbox web-1; FILES is a directory that a guest sees, and on
// PORT a server of a page of several files listens in it.
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [open, locked, image, files, port, executablePath] = process.argv.slice(2);
const pictures = process.env.BANDSOX_SCREENSHOTS;
if (pictures) mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, reducedMotion: "reduce" });
context.setDefaultTimeout(20_000);

const wrong = [];
// Answers that are no faults: to a wrong password, to a bad name, about a sandbox
// that is gone.
const expected = [/\/api\/auth\/login$/, /\/api\/vms\/[a-z0-9]{20}$/];

context.on("page", (page) => {
  page.on("pageerror", (e) => wrong.push("error in the page: " + e.stack));
  page.on("console", (m) => {
    if (m.type() === "error" && !expected.some((e) => e.test(m.location().url))) wrong.push(`console: ${m.text()} at ${m.location().url}`);
  });
  page.on("request", (r) => {
    const { origin, hostname } = new URL(r.url());
    if (![open, locked].includes(origin) && !hostname.startsWith(port + "-") && r.url().startsWith("http")) wrong.push("asked elsewhere: " + r.url());
  });
});
await context.addInitScript(() => {
  addEventListener("securitypolicyviolation", (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
});

const page = await context.newPage();

function check(ok, what) {
  if (!ok) throw new Error("not so: " + what);
}

async function step(name, f) {
  const began = Date.now();
  try {
    await f();
    console.log(`${name}: ${Date.now() - began} ms`);
  } catch (e) {
    if (pictures) await page.screenshot({ path: `${pictures}/failed-${name.replace(/\W+/g, "-")}.png` });
    wrong.push(`${name}: ${e.message}`);
  }
}

/** Takes a picture of the page in both themes. */
async function picture(name) {
  if (!pictures) return;
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.waitForTimeout(150);
    await page.screenshot({ path: `${pictures}/${name}-${colorScheme}.png` });
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** Takes pictures as a phone shows it, and finds what is too wide for that. */
async function narrow(name) {
  await page.setViewportSize({ width: 400, height: 800 });
  await page.waitForTimeout(150);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  check(wide <= 400, `${name} fits a phone: it is ${wide} wide`);
  const over = await page.evaluate(() => {
    const boxes = [...document.querySelectorAll(".top > :not(nav), .top nav > *")].map((e) => e.getBoundingClientRect()).filter((b) => b.width);
    return boxes.some((a) => boxes.some((b) => a !== b && a.left < b.left && a.right > b.left + 1));
  });
  check(!over, `${name}: nothing in the header overlaps`);
  await picture(name + "-400");
  await page.setViewportSize({ width: 1280, height: 800 });
}

const api = async (path, init) => (await fetch(open + path, init)).json();
const row = (name) => page.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });
const dialog = page.getByRole("dialog");
const menu = async (by, item) => {
  await by.click();
  await page.getByRole("menuitem", { name: item, exact: true }).click();
};

await step("fleet", async () => {
  await page.goto(open + "/");
  await row("web-1").waitFor();
  check((await row("web-1").innerText()).includes("running"), "web-1 runs");
});

await step("create", async () => {
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByLabel("Image").fill(image);
  await dialog.getByLabel("Name").fill("api-1");
  await dialog.getByLabel("Labels").fill("team=infra");
  await dialog.getByLabel("Metadata").fill("{");
  await dialog.getByText("Not JSON").waitFor();
  await dialog.getByLabel("Metadata").fill('{"note": "<b>bold</b>"}');
  await picture("create");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.waitFor({ state: "detached" });
  await row("api-1").waitFor();
});

await step("create that fails", async () => {
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByLabel("Image").fill("dir:/nowhere/at/all");
  await dialog.getByRole("button", { name: "Create", exact: true }).click();
  await dialog.getByRole("alert").filter({ hasText: "/nowhere" }).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

await step("live", async () => {
  await api("/api/vms", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ image, name: "made-elsewhere" }) });
  await row("made-elsewhere").waitFor();
  for (const name of ["worker-1", "worker-2"])
    await api("/api/vms", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ image, name, labels: { team: "batch", kind: "worker", long: "a-value-that-is-rather-long" } }) });
  await row("worker-2").waitFor();
});

await step("lifecycle", async () => {
  await row("worker-1").getByRole("button", { name: /^Stop/ }).click();
  await row("worker-1").getByText("stopped").waitFor();
  await row("worker-1").getByRole("button", { name: /^Start/ }).click();
  await row("worker-1").getByText("running").waitFor();
  await row("worker-2").getByRole("button", { name: /^Stop/ }).click();
  await row("worker-2").getByText("stopped").waitFor();
});

await step("rename", async () => {
  await menu(row("made-elsewhere").getByRole("button", { name: /^More/ }), "Rename");
  await dialog.getByRole("textbox").fill("renamed <i>here</i>");
  await dialog.getByRole("button", { name: "Rename" }).click();
  await dialog.getByRole("alert").waitFor(); // the reason, and the name to mend
  check((await dialog.getByRole("textbox").inputValue()) === "renamed <i>here</i>", "what was typed is still there");
  await picture("rename");
  await dialog.getByRole("textbox").fill("renamed-here");
  await dialog.getByRole("button", { name: "Rename" }).click();
  await dialog.waitFor({ state: "detached" });
  await row("renamed-here").waitFor();
});

await step("filter", async () => {
  await page.getByLabel("Select all").focus();
  await page.keyboard.press("/");
  await page.keyboard.type("worker batch");
  await row("worker-1").waitFor();
  await row("web-1").waitFor({ state: "detached" });
  await page.keyboard.press("Escape");
  await row("web-1").waitFor();
  await picture("fleet");
  await narrow("fleet");
});

await step("menu by keyboard", async () => {
  await row("web-1").getByRole("button", { name: /^More/ }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("menu").waitFor();
  await page.keyboard.press("ArrowDown");
  await picture("menu");
  await page.keyboard.press("Escape");
  await page.getByRole("menu").waitFor({ state: "detached" });
});

await step("bulk delete", async () => {
  await page.getByLabel("Select worker-1").check();
  await page.getByLabel("Select worker-2").check();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await picture("confirm");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await row("worker-1").waitFor({ state: "detached" });
  await row("worker-2").waitFor({ state: "detached" });
  check((await api("/api/vms")).every((sb) => !sb.name?.startsWith("worker")), "they are gone");
});

await step("details", async () => {
  await page.getByRole("link", { name: "web-1", exact: true }).click();
  await page.getByRole("heading", { name: "web-1" }).waitFor();
  await page.getByLabel("Live figures").getByText("%").waitFor();
  if (pictures) await page.waitForTimeout(4000); // for the lines
});

await step("metadata", async () => {
  await page.getByRole("button", { name: "Edit metadata" }).click();
  await dialog.getByRole("textbox").fill("[1]");
  check(await dialog.getByRole("button", { name: "Save" }).isDisabled(), "a list is no metadata");
  await dialog.getByRole("textbox").fill('{"owner": "<img src=x onerror=alert(1)>", "n": 3}');
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.getByText("<img src=x").waitFor();
  check((await api("/api/vms/web-1")).metadata.n === 3, "the server has it");
});

await step("files", async () => {
  for (const part of files.split("/").filter(Boolean)) await page.locator(".files .entry").filter({ has: page.getByText(part, { exact: true }) }).click();
  await page.getByRole("button", { name: "README.md", exact: true }).waitFor();
  await page.getByRole("button", { name: "<b onclick=x>&amp;.txt", exact: true }).waitFor();
  await picture("details");
  await narrow("details");
  const where = page.url();
  await page.reload();
  await page.getByRole("button", { name: "notes.txt", exact: true }).waitFor();
  await page.goBack();
  await page.locator(".files .entry").filter({ hasText: files.split("/").pop() }).waitFor();
  await page.goForward();
  check(page.url() === where, "back and forward lead up and down");
  await page.getByRole("button", { name: "notes.txt", exact: true }).click();
  await dialog.getByText("with two lines").waitFor();
  await picture("viewer");
  const saved = page.waitForEvent("download");
  await dialog.getByRole("button", { name: "Download" }).click();
  const path = await (await saved).path();
  check(path, "it was saved");
  await page.keyboard.press("Escape");
  await page.getByLabel("Files to upload").setInputFiles({ name: "up.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(300_000, 7) });
  await page.getByRole("button", { name: "up.bin", exact: true }).waitFor();
  await page.getByRole("button", { name: "New directory" }).click();
  await dialog.getByRole("textbox").fill("made");
  await dialog.getByRole("button", { name: "Make" }).click();
  await page.getByRole("button", { name: "made", exact: true }).waitFor();
  await menu(page.getByRole("button", { name: "More for up.bin" }), "Rename");
  await dialog.getByRole("textbox").fill("down.bin");
  await dialog.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("button", { name: "down.bin", exact: true }).waitFor();
  await menu(page.getByRole("button", { name: "More for down.bin" }), "Delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "down.bin", exact: true }).waitFor({ state: "detached" });
});

await step("markdown", async () => {
  await page.goto(open + "/markdown_viewer?vm_id=web-1&path=" + encodeURIComponent(files + "/README.md"));
  await page.getByRole("heading", { name: "A guest's words" }).waitFor();
  await page.getByText("<script>").waitFor();
  check(!(await page.evaluate(() => window.hacked)), "nothing of it ran");
  check((await page.locator("article script, article img, article [onerror]").count()) === 0, "no HTML of its own");
  const links = await page.locator("article a").evaluateAll((all) => all.map((a) => a.protocol));
  check(links.every((p) => p === "https:" || p === "http:"), "links lead to the web: " + links);
  await picture("markdown");
  await narrow("markdown");
  await page.getByRole("link", { name: "another page" }).click();
  await page.getByRole("heading", { name: "More", exact: true }).waitFor();
});

for (const tab of ["Processes", "Console", "Events"])
  await step(tab, async () => {
    await page.goto(open + "/vm_details?id=web-1");
    if (tab === "Processes") await api("/api/vms/web-1/processes", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ args: ["sleep", "1000"] }) });
    await page.getByRole("tab", { name: tab }).click();
    if (tab === "Processes") {
      await page.getByRole("cell", { name: "sleep 1000" }).waitFor();
      await picture("processes");
      await page.getByRole("button", { name: /^Kill \d/ }).click();
      await dialog.getByRole("button", { name: "Kill" }).click();
      await page.getByText("signal 9").waitFor();
    }
    if (tab === "Events") await page.getByRole("cell", { name: "created", exact: true }).waitFor();
    await page.waitForTimeout(300);
    if (tab !== "Processes") await picture(tab.toLowerCase());
    await narrow(tab.toLowerCase());
  });

const screen = () => page.locator(".xterm-rows").innerText().then((t) => t.replaceAll("\u00a0", " "));
async function shows(text) {
  for (let i = 0; i < 100; i++) {
    if ((await screen()).includes(text)) return;
    await page.waitForTimeout(100);
  }
  throw new Error(`the terminal shows no ${text}: ${await screen()}`);
}

/** Opens the guest's server on PORT, whose page fetches its parts. */
async function ports(server) {
  await page.goto(server + "/vm_details?id=web-1");
  await page.getByLabel("Port", { exact: true }).fill(port);
  const [tab] = await Promise.all([context.waitForEvent("page"), page.getByRole("button", { name: "Open", exact: true }).click()]);
  await tab.getByText("all parts are here").waitFor();
  check(new URL(tab.url()).hostname.endsWith(".localhost"), "it has a host name of its own: " + tab.url());
  check(!tab.url().includes("ticket"), "no ticket is left in the address");
  check((await tab.evaluate(() => getComputedStyle(document.body).color)) === "rgb(1, 2, 3)", "its style sheet is in force");
  check(await tab.evaluate(() => opener === null), "it can't reach the page that opened it");
  await tab.close();
}

await step("a guest's server", () => ports(open));

async function terminal(server) {
  await page.goto(server + "/terminal?id=web-1");
  await page.waitForURL(/process=/);
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type("A=41; echo sum-$((A+1)); printf '\\033[38;2;200;80;20mcolour\\033[0m \\033[31mred\\033[0m \\033[42mgreen\\033[0m\\n'\n");
  await shows("sum-42");
}

await step("terminal", async () => {
  await terminal(open);
  await shows("colour red green");
  await picture("terminal");
  await page.reload();
  await shows("sum-42");
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type("echo still-$A; stty size\n"); // the same shell, with its variables
  await shows("still-41");
  await page.keyboard.type("set -- $(stty size); echo wide-$2-end\n");
  await shows("-end\n");
  const wide = /wide-(\d+)-end/.exec(await screen())[1];
  await page.setViewportSize({ width: 900, height: 500 });
  await page.waitForTimeout(300);
  await page.keyboard.type("set -- $(stty size); echo narrow-$2-end\n");
  await shows("narrow-1"); // of three digits
  const narrow = /narrow-(\d+)-end/.exec(await screen())[1];
  check(Number(narrow) < Number(wide), `the guest knows the new width: ${wide}, ${narrow}`);
  await page.keyboard.type("exit 3\n");
  await page.getByText("exit code 3").waitFor();
  await picture("terminal-ended");
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole("button", { name: "New shell" }).last().click();
  await page.locator(".ended").waitFor({ state: "detached" });
});

await step("theme", async () => {
  await page.goto(open + "/");
  await page.getByRole("button", { name: "Dark theme" }).click();
  const dark = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  await page.reload();
  check((await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)) === dark, "the theme is kept");
  await page.getByRole("button", { name: "Light theme" }).click();
  await page.evaluate(() => localStorage.clear());
});

await step("no such sandbox", async () => {
  await page.goto(open + "/");
  await row("web-1").waitFor();
  await page.evaluate(() => history.pushState(null, "", "/vm_details?id=gone") || dispatchEvent(new PopStateEvent("popstate")));
  expected.push(/\/api\/vms\/gone/);
  await page.getByText("There is no such sandbox").waitFor();
  await page.goto(open + "/terminal?id=gone");
  await page.getByText("There is no such sandbox").waitFor();
  check((await page.title()).startsWith("No such sandbox"), "the title says so");
});

await step("500 sandboxes", async () => {
  const list = Array.from({ length: 500 }, (_, i) => ({
    id: ("0000" + i).slice(-5) + "aaaaabbbbbccccc", name: "box-" + i, image: "docker.io/library/alpine:3.20", digest: "sha256:" + "a".repeat(64), vcpu: 1 + (i % 4), mem_mib: 128 << i % 5,
    disk_size_mib: 4096, created_at: 1.7e9 + i, status: ["running", "stopped", "paused", "failed"][i % 4], metadata: {}, labels: { team: "t" + (i % 7) },
  }));
  await page.route("**/api/vms", (r) => r.fulfill({ json: list }));
  await page.goto(open + "/");
  await page.getByRole("link", { name: "box-499", exact: true }).waitFor();
  await picture("many");
  const ms = await page.evaluate(async () => {
    const input = document.querySelector("input[type=search]");
    const began = performance.now();
    input.value = "box-1";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((f) => requestAnimationFrame(() => setTimeout(f)));
    return Math.round(performance.now() - began);
  });
  console.log(`filtering 500 rows: ${ms} ms`);
  await page.unroute("**/api/vms");
});

await step("docs", async () => {
  await page.goto(open + "/docs");
  await picture("docs");
  await page.setViewportSize({ width: 400, height: 800 });
  check((await page.evaluate(() => document.documentElement.scrollWidth)) <= 400, "the API's page fits a phone");
  await picture("docs-400");
  await page.locator("article").nth(5).scrollIntoViewIfNeeded();
  await picture("docs-400-down");
  await page.setViewportSize({ width: 1280, height: 800 });
});

await step("server down", async () => {
  expected.push(/./); // whatever is asked for fails from here
  await page.route("**/api/events", (r) => r.abort());
  await page.goto(open + "/");
  await row("web-1").waitFor();
  await page.route("**/api/vms", (r) => r.abort());
  await page.getByText("The server doesn't answer").waitFor();
  check(await page.getByRole("button", { name: "Create", exact: true }).isDisabled(), "nothing can be asked of it");
  await picture("down");
  await page.unroute("**/api/vms");
  await page.unroute("**/api/events");
  await page.getByText("Live", { exact: true }).waitFor();
  check(await page.getByRole("button", { name: "Create", exact: true }).isEnabled(), "it is back");
  expected.pop();
});

await step("login", async () => {
  await page.goto(locked + "/vm_details?id=web-1#console");
  await page.waitForURL(/\/login\?next=/);
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await picture("login");
  await page.getByLabel("Password").fill("correct horse battery");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(/\/vm_details\?id=web-1/);
  await page.getByRole("heading", { name: "web-1" }).waitFor();
  await terminal(locked); // by a ticket
  await ports(locked);
  await page.goto(locked + "/login?next=//example.org/");
  await page.waitForURL(locked + "/");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL(/\/login/);
  await page.goto(locked + "/");
  await page.waitForURL(/\/login/);
});

await browser.close();
for (const w of wrong) console.log("WRONG: " + w);
process.exit(wrong.length ? 1 : 0);
