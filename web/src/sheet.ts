// A style element for a page whose policy allows none: what is written into it
// goes into a constructed style sheet, which the document has for as long as
// the element is in it. xterm.js gets these (see build/xterm.go).

class SheetElement extends HTMLElement {
  private sheet = new CSSStyleSheet();

  set textContent(css: string) {
    this.sheet.replaceSync(css);
  }

  connectedCallback() {
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.sheet];
  }

  disconnectedCallback() {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== this.sheet);
  }
}

customElements.define("bandsox-sheet", SheetElement);

export function sheetElement(): HTMLElement {
  return document.createElement("bandsox-sheet");
}
