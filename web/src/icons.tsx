// The few pictures there are, drawn with the text's colour.

const paths = {
  play: "M5 3.5v9l7-4.5z",
  stop: "M4 4h8v8H4z",
  pause: "M5 3.5v9M11 3.5v9",
  restart: "M12.5 8a4.5 4.5 0 1 1-1.4-3.3M12.5 2.5v3h-3",
  terminal: "M3 4.5 6.5 8 3 11.5M8.5 11.5H13",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  plus: "M8 3v10M3 8h10",
  close: "m4 4 8 8M12 4l-8 8",
  trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5 5 13h6l.5-8.5M7 7v3.5M9 7v3.5",
  pencil: "m3 13 .7-3L10.8 3 13 5.2 6 12.3zM9.5 4.3l2.2 2.2",
  folder: "M2 12.5v-9h4l1.5 1.8H14v7.2z",
  file: "M4 2h5l3 3v9H4zM9 2v3h3",
  link: "M4 2h5l3 3v9H4zM9 2v3h3M6 11l3.5-3.5M7 7.5h2.5V10",
  download: "M8 2.5v7M5 7l3 3 3-3M3 13h10",
  upload: "M8 10V3M5 5.5l3-3 3 3M3 13h10",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  sun: "M8 5.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6M8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7",
  moon: "M13 9.6A5.5 5.5 0 0 1 6.4 3a5.5 5.5 0 1 0 6.6 6.6z",
  exit: "M9.5 3H3v10h6.5M6.5 8H14M11.5 5.5 14 8l-2.5 2.5",
  up: "M8 13V3M4 7l4-4 4 4",
  external: "M6.5 3H3v10h10V9.5M9 3h4v4M13 3 7.5 8.5",
  search: "M7 3a4 4 0 1 1 0 8 4 4 0 0 1 0-8M10 10l3.5 3.5",
};

export type IconName = keyof typeof paths;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M7 11.5 16 7l9 4.5-9 4.5zM7 16.2l9 4.5 9-4.5M7 20.8l9 4.5 9-4.5" />
    </svg>
  );
}
