// Maps by row and step, one for each run, side by side on one colour scale.
import { label, layerTicks, scale, stepAxis, tickText, ticks } from "./axes.js";
import { SPECIAL, shade, tone } from "./colours.js";
import { h, svg, term } from "./dom.js";
import { saving } from "./export.js";
import { cellNumber, cellText, shades, shortNames, stepsOf } from "./model.js";
import { endsOf } from "./runs.js";

const GAP = 12;
const TOP = 44;
const LEGEND = 84;

// The columns that lie in a place of the axis: of several steps all, of none the one before.
function columnsIn(matrix, from, to) {
  const last = matrix.columnAt(to);
  const found = [];
  for (let column = last; column >= 0 && matrix.steps[column] > from; column -= 1) found.push(column);
  return found.length ? found : [last];
}

// The picture of a matrix, a pixel a row and at most so many columns as there is room for; row 0 is the lowest.
export function picture(matrix, low, high, steps, room) {
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const width = Math.max(1, Math.min(room, last - first + 1));
  const height = matrix.layers.length;
  const canvas = h("canvas", { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const edge = (index) => first - 0.5 + (index * (last - first + 1)) / width;
  for (let px = 0; px < width; px += 1) {
    if (matrix.steps[0] >= edge(px + 1) || matrix.steps[matrix.steps.length - 1] < edge(px) - (last - first) / 4) continue;
    const columns = columnsIn(matrix, edge(px), edge(px + 1));
    for (let row = 0; row < height; row += 1) {
      const colour = cellColour(matrix, row, columns, low, high);
      if (colour) image.data.set([...colour, 255], 4 * ((height - 1 - row) * width + px));
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

// Of several cells the mean; but none that is no number hides behind those that are.
function cellColour(matrix, row, columns, low, high) {
  let sum = 0;
  let count = 0;
  let kind = "missing";
  for (const column of columns) {
    const found = matrix.kind(row, column);
    if (found === "nan" || found === "inf") return SPECIAL[found];
    if (found === "zero") kind = "zero";
    else if (!found) {
      sum += matrix.value(row, column);
      count += 1;
    }
  }
  if (count && sum / count > high + 1e-9) return SPECIAL.above;
  if (count) return shade((sum / count - low) / (high - low));
  return SPECIAL[kind] ?? null;
}

function legend(x, top, bottom, low, high, matrix, kinds) {
  const place = scale(low, high, bottom, top);
  const strip = h("canvas", { width: 1, height: 128 });
  const pen = strip.getContext("2d");
  for (let index = 0; index < 128; index += 1) {
    pen.fillStyle = `rgb(${shade(1 - index / 127).join(",")})`;
    pen.fillRect(0, index, 1, 1);
  }
  const words = { zero: "exactly 0", nan: "NaN or ∞", above: `above ${tickText(high, matrix.log)}` };
  return svg(
    "g",
    { class: "axis legend" },
    svg("image", { href: strip.toDataURL(), x, y: top, width: 14, height: bottom - top, preserveAspectRatio: "none" }),
    svg("rect", { class: "box", x, y: top, width: 14, height: bottom - top }),
    label(x, top - 6, "large", "start", { class: "title" }),
    label(x, bottom + 14, "small", "start", { class: "title" }),
    ticks(low, high, 6, matrix.log).map((value) => label(x + 20, place(value) + 3.5, tickText(value, matrix.log), "start")),
    [...kinds].map((kind, index) => [
      svg("rect", { class: "box", x, y: bottom + 20 + 16 * index, width: 14, height: 10, style: `fill:rgb(${SPECIAL[kind].join(",")})` }),
      label(x + 20, bottom + 29 + 16 * index, words[kind], "start"),
    ]),
  );
}

// Which cells of these are none of the scale that ends at high.
function kindsOf(matrices, high) {
  const found = new Set();
  for (const matrix of matrices) {
    if (matrix.hasNumbers && matrix.high > high) found.add("above");
    if (matrix.codes.includes(65533)) found.add("zero");
    if (matrix.codes.includes(65534) || matrix.codes.includes(65535)) found.add("nan");
  }
  return found;
}

// One map with its head; layout has its place, the picture's room in pixels and whether its rows are named.
function map(name, words, matrix, run, layout, state, more) {
  const { x, y, width, height, low, high, steps } = layout;
  const box = { left: x, right: x + width, top: y + TOP, bottom: y + TOP + height };
  const toX = scale(steps[0] - 0.5, steps[steps.length - 1] + 0.5, box.left, box.right);
  const image = picture(matrix, low, high, steps, Math.ceil(width * 1.5)).toDataURL();
  const place = (row) => box.bottom - ((row + 0.5) / matrix.layers.length) * height;
  const each = height / matrix.layers.length;
  const ill = new Set((run?.findings ?? []).flatMap((finding) => finding.layers));
  const fits = Math.max(4, Math.floor((width + GAP / 2) / 6.8));
  const kind = tone(run?.verdict);
  // Rows have their names on the left alone, which are none of a map with others.
  const below = [layout.isLowest ? "step" : "", layout.isAlike ? "" : more.isTime ? `t ${matrix.layers[0]} to ${matrix.layers.at(-1)}` : `${matrix.layers.length} layers`]
    .filter(Boolean)
    .join(" · ");
  // What is ill through time is marked where time is shown, and nowhere else.
  const isMarked = Boolean(run?.verdict.includes("through time")) === more.isTime;
  const marker = svg(
    "g",
    { class: "marker" },
    svg("line", { x1: 0, x2: 0, y1: box.top, y2: box.bottom }),
    svg("path", { d: `M-4 ${box.bottom + 6}L4 ${box.bottom + 6}L0 ${box.bottom}Z` }),
  );
  state.markers.push((step) => {
    // At the last step there is nothing on its right, and the map's edge is line enough.
    marker.classList.toggle("at-end", step >= steps[steps.length - 1]);
    const at = Math.min(Math.max(toX(step), box.left), box.right);
    marker.setAttribute("transform", `translate(${at} 0)`);
  });
  return svg(
    "g",
    { class: "map", "data-run": name },
    label(box.left, box.top - 25, fitted(words, fits), "start", { class: "head" }),
    run ? label(box.left, box.top - 9, verdictText(run, fits), "start", { class: `verdict ${kind}` }) : null,
    svg("rect", { class: "paper", x: box.left, y: box.top, width, height }),
    svg("image", { class: each < 1 ? "cells fine" : "cells", href: image, x: box.left, y: box.top, width, height, preserveAspectRatio: "none", "data-run": name }),
    svg("rect", { class: `box ${isMarked ? kind : ""}`, x: box.left, y: box.top, width, height }),
    matrix.layers.map((layer, row) =>
      ill.has(layer) && isMarked
        ? svg("rect", { class: `where ${kind}`, x: box.left - 5, y: place(row) - each / 2, width: 4, height: Math.max(each, 3) })
        : null,
    ),
    layout.isFirst ? rowNames(matrix, place, box, more) : null,
    stepAxis(box, toX, steps[0], steps[steps.length - 1], Math.max(2, Math.floor(width / 70)), below),
    marker,
  );
}

// A name for which there is little room goes without its keys, and then without the middle: what differs is at the ends.
function fitted(words, fits) {
  const short = words.length > fits ? words.replace(/[\w.]+=/g, "") : words;
  if (short.length <= fits) return short;
  const end = short.includes(",") ? short.slice(short.lastIndexOf(",")).slice(-Math.floor(fits / 2)) : "";
  return `${short.slice(0, fits - 1 - end.length)}…${end}`;
}

function verdictText(run, fits) {
  const words = run.verdict;
  const ends = endsOf(run);
  const whole = ends ? [`${words}, ${ends.words} ${ends.ratio}`, `${words}, ${ends.ratio}`] : [];
  const texts = [...whole, words, words.replace(" through time", ""), `${words.slice(0, fits)}…`];
  return texts.find((text) => text.length <= fits + 1) ?? texts.at(-1);
}

function rowNames(matrix, place, box, more) {
  const count = Math.max(2, Math.min(24, Math.floor((box.bottom - box.top) / 15)));
  return svg(
    "g",
    { class: "axis rows" },
    layerTicks(matrix.layers, count).map(({ row, name }) => label(box.left - 9, place(row) + 3.5, name, "end")),
    label(box.left - 9, Math.min(box.top - 6, place(matrix.layers.length - 1) - 9), more.above, "end", { class: "title" }),
    label(box.left - 9, box.bottom + 16, more.below, "end", { class: "title" }),
  );
}

// All maps of a panel. more: title, about, name for files, words above and below the rows, isTime, open(run, row).
export function mapsPanel(matrices, state, width, tip, more) {
  const entries = [...matrices];
  if (!entries.length) return h("div", { class: "empty" }, "no run that is shown has this quantity");
  const [, some] = entries[0];
  const steps = stepsOf(matrices.values());
  const [low, high] = shades(matrices.values(), more.isTime || state.quantity === "delta");
  const longest = Math.max(...entries.flatMap(([, m]) => layerTicks(m.layers, 24).map((tick) => tick.name.length)));
  const left = Math.max(46, 16 + 6.3 * longest);
  const room = width - left - LEGEND;
  const fitting = Math.min(Math.max(1, Math.floor((room + GAP) / (76 + GAP))), 8);
  const lines = Math.ceil(entries.length / fitting);
  const columns = Math.ceil(entries.length / lines);
  const each = (room - GAP * (columns - 1)) / columns;
  const most = Math.max(...entries.map(([, matrix]) => matrix.layers.length));
  const tall = lines === 1 ? Math.min(Math.max(15 * most, 200), Math.max(320, most)) : lines === 2 ? 190 : 130;
  const stride = TOP + tall + 40;
  const height = lines * stride;
  const drawing = svg("svg", { class: "chart maps", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": more.title });
  const words = shortNames(entries.map(([name]) => name));
  const places = entries.map(([name, matrix], index) => {
    const at = { x: left + (index % columns) * (each + GAP), y: Math.floor(index / columns) * stride };
    const isFirst = index % columns === 0;
    const isLowest = index + columns >= entries.length;
    const [, leftmost] = entries[index - (index % columns)];
    const isAlike = matrix.layers.join() === leftmost.layers.join();
    const layout = { ...at, width: each, height: tall, low, high, steps, isFirst, isLowest, isAlike };
    drawing.append(map(name, words.get(name), matrix, state.byName.get(name), layout, state, more));
    return { name, matrix, ...at };
  });
  drawing.append(legend(width - LEGEND + 14, TOP, TOP + tall, low, high, some, kindsOf(matrices.values(), high)));
  // What lies under the pointer: the run, the row and the column.
  const under = (event) => {
    const frame = drawing.getBoundingClientRect();
    const px = ((event.clientX - frame.left) / frame.width) * width;
    const py = ((event.clientY - frame.top) / frame.height) * height;
    const found = places.find((at) => px >= at.x && px < at.x + each && py >= at.y + TOP && py < at.y + TOP + tall);
    if (!found) return null;
    const row = Math.floor((1 - (py - found.y - TOP) / tall) * found.matrix.layers.length);
    const span = steps[steps.length - 1] - steps[0] + 1;
    const column = found.matrix.columnAt(Math.round(steps[0] - 0.5 + ((px - found.x) / each) * span));
    return { ...found, row: Math.min(Math.max(row, 0), found.matrix.layers.length - 1), column };
  };
  drawing.addEventListener("mousemove", (event) => {
    const at = under(event);
    if (!at) return tip.hide();
    const step = at.matrix.steps[at.column].toLocaleString("en");
    const where = `${more.row} ${at.matrix.layers[at.row]}`.trim();
    return tip.show([at.name, `${where}, step ${step}`, cellText(at.matrix, at.row, at.column)], event.clientX, event.clientY);
  });
  drawing.addEventListener("mouseleave", () => tip.hide());
  drawing.addEventListener("click", (event) => {
    const at = under(event);
    if (at && more.open) more.open(at.name, at.matrix.layers[at.row]);
  });
  const table = () => [
    ["run", more.row || "layer", "step", some.title],
    ...entries.flatMap(([name, m]) =>
      m.layers.flatMap((layer, row) => m.steps.map((step, column) => [name, layer, step, cellNumber(m, row, column)])),
    ),
  ];
  return h(
    "section",
    { class: "panel" },
    h("header", {}, h("h2", {}, more.title), h("span", { class: "about" }, more.about), saving(more.name, () => drawing, table)),
    drawing,
  );
}
