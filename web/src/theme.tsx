// Light or dark: as the system says until someone chooses.
import { signal } from "@preact/signals";
import { Button } from "./ui.tsx";

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = signal(document.documentElement.dataset.theme);
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

export const isDark = () => (chosen.value ? chosen.value === "dark" : systemDark.value);

export function ThemeButton() {
  const dark = isDark();
  const toggle = () => {
    const to = dark ? "light" : "dark";
    document.documentElement.dataset.theme = to;
    chosen.value = to;
    try {
      localStorage.setItem("bandsox_theme", to);
    } catch {
      // no storage: it lasts as long as the page
    }
  };
  return <Button local icon={dark ? "sun" : "moon"} kind="plain" label={dark ? "Light theme" : "Dark theme"} onClick={toggle} />;
}
