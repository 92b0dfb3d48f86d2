// The menu behind a button. There is one, because only one is ever open.
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { Button } from "./ui.tsx";
import { Icon, type IconName } from "./icons.tsx";

export interface Item {
  text: string;
  icon?: IconName;
  danger?: boolean;
  href?: string;
  do?: () => void;
}

interface Open {
  by: HTMLElement;
  label: string;
  items: Item[];
}
const open = signal<Open | undefined>(undefined);

export function MenuButton(p: { label: string; items: () => Item[] }) {
  return (
    <Button
      icon="more"
      kind="plain"
      label={p.label}
      onClick={(e) => {
        const by = e.currentTarget as HTMLElement;
        open.value = open.value?.by === by ? undefined : { by, label: p.label, items: p.items() };
      }}
    />
  );
}

export function Menu() {
  const o = open.value;
  return o ? <OpenMenu key={o.label} o={o} /> : null;
}

function OpenMenu({ o }: { o: Open }) {
  const ref = useRef<HTMLDivElement>(null);
  const close = () => (open.value = undefined);
  useLayoutEffect(() => {
    const at = o.by.getBoundingClientRect();
    const box = ref.current!;
    box.style.left = Math.max(8, Math.min(at.right - box.offsetWidth, innerWidth - box.offsetWidth - 8)) + "px";
    const below = at.bottom + box.offsetHeight + 8 < innerHeight;
    box.style.top = (below ? at.bottom + 4 : Math.max(8, at.top - box.offsetHeight - 4)) + "px";
    box.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  }, []);
  useEffect(() => {
    const outside = (e: PointerEvent) => {
      if (!ref.current?.contains(e.target as Node) && !o.by.contains(e.target as Node)) close();
    };
    addEventListener("pointerdown", outside);
    addEventListener("scroll", close, true);
    addEventListener("resize", close);
    addEventListener("popstate", close);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("scroll", close, true);
      removeEventListener("resize", close);
      removeEventListener("popstate", close);
    };
  }, []);
  const keys = (e: KeyboardEvent) => {
    const items = [...ref.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (e.key === "ArrowDown") items[(at + 1) % items.length]?.focus();
    else if (e.key === "ArrowUp") items[(at - 1 + items.length) % items.length]?.focus();
    else if (e.key === "Home") items[0]?.focus();
    else if (e.key === "End") items.at(-1)?.focus();
    else if (e.key === "Escape" || e.key === "Tab") {
      close();
      o.by.focus();
    } else return;
    e.preventDefault();
  };
  return (
    <div ref={ref} class="menu" role="menu" aria-label={o.label} onKeyDown={keys}>
      {o.items.map((i) =>
        i.href ? (
          <a key={i.text} role="menuitem" href={i.href} onClick={close}>
            {i.icon && <Icon name={i.icon} />}
            {i.text}
          </a>
        ) : (
          <button key={i.text} type="button" role="menuitem" class={i.danger ? "danger" : ""}
            onClick={() => {
              close();
              o.by.focus();
              i.do?.();
            }}>
            {i.icon && <Icon name={i.icon} />}
            {i.text}
          </button>
        ),
      )}
    </div>
  );
}
