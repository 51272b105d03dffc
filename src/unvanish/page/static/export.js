// Saves a chart as PNG, SVG or CSV.
import { h } from "./dom.js";

// Three buttons for a chart: its drawing, and its numbers as rows, the head first.
export function saving(name, drawing, rows) {
  const button = (kind, make) =>
    h("button", { type: "button", class: "save", title: `save as ${kind}`, onclick: make }, kind);
  return h(
    "span",
    { class: "saving" },
    button("PNG", () => savePng(name, drawing())),
    button("SVG", () => download(`${name}.svg`, new Blob([standalone(drawing())], { type: "image/svg+xml" }))),
    button("CSV", () => download(`${name}.csv`, new Blob([csv(rows())], { type: "text/csv" }))),
  );
}

// Cells with commas, quotes or line ends are quoted.
export function csv(rows) {
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

// A drawing that needs no style sheet: the looks that it has here are written into it.
export function standalone(drawing) {
  const copy = drawing.cloneNode(true);
  const wanted = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font", "image-rendering"];
  const originals = drawing.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((element, index) => {
    const look = getComputedStyle(originals[index]);
    element.setAttribute("style", wanted.map((key) => `${key}:${look.getPropertyValue(key)}`).join(";"));
  });
  const { width, height } = drawing.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const paper = copy.ownerDocument.createElementNS("http://www.w3.org/2000/svg", "rect");
  paper.setAttribute("width", width);
  paper.setAttribute("height", height);
  paper.setAttribute("fill", getComputedStyle(drawing).getPropertyValue("--paper") || "#fff");
  copy.prepend(paper);
  return new XMLSerializer().serializeToString(copy);
}

async function savePng(name, drawing) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(drawing))}`;
  await picture.decode();
  const canvas = h("canvas", { width: picture.width * 2, height: picture.height * 2 });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => download(`${name}.png`, blob));
}

function download(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
