// The character references that text has in practice.
const named: Record<string, string> = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "\u00a9", reg: "\u00ae", hellip: "\u2026",
  mdash: "\u2014", ndash: "\u2013", larr: "\u2190", rarr: "\u2192", uarr: "\u2191", darr: "\u2193", times: "\u00d7", middot: "\u00b7", bull: "\u2022", deg: "\u00b0",
};

/** Text with its references replaced. One that isn't known stays as it is. */
export function decode(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/g, (all, dec, hex, name) => {
    if (name) return Object.hasOwn(named, name) ? named[name]! : all;
    const code = dec ? Number(dec) : parseInt(hex, 16);
    return code > 0 && code < 0x110000 && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : "\ufffd";
  });
}
