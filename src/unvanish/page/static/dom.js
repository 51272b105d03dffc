// Makes elements, and shows what the pointer is on.
import { meaning } from "./glossary.js";

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// An element of HTML; children are elements or text, so that nothing in them is taken for markup.
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// The same of SVG.
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// A word that is explained on hover; the word itself, if the glossary does not know it.
export function term(words, key = words) {
  return meaning(key) ? h("span", { class: "term", tabindex: 0, "data-term": key }, words) : words;
}

// Shows the glossary's words on hover and focus, and what a chart says of the place under the pointer.
export class Tip {
  constructor(root) {
    this.box = h("div", { class: "tip", role: "tooltip" });
    root.append(this.box);
    const explain = (event) => {
      const found = event.target.closest?.("[data-term]");
      if (!found) return;
      const place = found.getBoundingClientRect();
      const known = meaning(found.dataset.term) || found.dataset.meaning;
      if (known) this.show([known], place.left, place.bottom);
    };
    root.addEventListener("mouseover", explain);
    root.addEventListener("focusin", explain);
    for (const name of ["mouseout", "focusout"]) {
      root.addEventListener(name, (event) => event.target.closest?.("[data-term]") && this.hide());
    }
  }

  show(lines, x, y) {
    this.box.replaceChildren(...lines.map((line) => h("div", {}, line)));
    this.box.style.display = "block";
    const { width, height } = this.box.getBoundingClientRect();
    const left = Math.min(x + 12, window.innerWidth - width - 8);
    const top = y + 16 + height > window.innerHeight ? y - height - 12 : y + 14;
    this.box.style.left = `${Math.max(left, 4)}px`;
    this.box.style.top = `${Math.max(top, 4)}px`;
  }

  hide() {
    this.box.style.display = "none";
  }
}
