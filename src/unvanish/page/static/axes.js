// Scales, and the axes drawn beside them.
import { svg } from "./dom.js";
import { written } from "./model.js";

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

// Maps numbers between low and high to places between start and end.
export function scale(low, high, start, end) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

// At most count round numbers between two; whole ones for logarithms and steps.
export function ticks(low, high, count, isWhole = false) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let stride = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
  if (isWhole) stride = Math.max(1, Math.round(stride));
  const found = [];
  for (let k = Math.ceil(low / stride - 1e-9); k * stride <= high + stride * 1e-9; k += 1) found.push(k * stride);
  return found.map((value) => Number(value.toPrecision(12)));
}

export function power(exponent) {
  return `10${String(exponent).replace(/./g, (sign) => RAISED[sign] ?? sign)}`;
}

// A number of a quantity as its axis has it.
export function tickText(value, isLog) {
  return isLog ? power(value) : written(value);
}

// At most count of the layers with their rows, the first and the last among them.
export function layerTicks(layers, count, length) {
  const stride = Math.max(1, Math.ceil((layers.length - 1) / Math.max(count - 1, 1)));
  const rows = [];
  for (let row = 0; row < layers.length; row += stride) rows.push(row);
  const last = layers.length - 1;
  if (rows[rows.length - 1] !== last) {
    if (last - rows[rows.length - 1] < stride * 0.6 && rows.length > 1) rows.pop();
    rows.push(last);
  }
  return rows.map((row) => ({ row, name: shortened(layers[row], length) }));
}

// A name that is too long keeps its numbers and its end: blocks.3.attention.projection is b.3.a.projection.
export function shortened(name, length = 18) {
  const parts = name.split(".");
  const isTooLong = () => parts.join(".").length > length;
  const initial = (part) => part.replace(/[A-Za-z_]+/, (word) => word[0]);
  for (let k = 0; k < parts.length - 1 && isTooLong(); k += 1) parts[k] = initial(parts[k]);
  const last = parts.length - 1;
  const room = length - (parts.join(".").length - parts[last].length);
  if (isTooLong()) parts[last] = room < 5 ? initial(parts[last]) : `${parts[last].slice(0, room - 1)}…`;
  return isTooLong() ? `…${parts.join(".").slice(1 - length)}` : parts.join(".");
}

export function label(x, y, words, anchor = "middle", more = {}) {
  return svg("text", { x, y, "text-anchor": anchor, ...more }, words);
}

// The left axis with lines across.
export function yAxis(box, y, low, high, isLog, count = 6) {
  return svg(
    "g",
    { class: "axis" },
    ticks(low, high, count, isLog).map((value) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      label(box.left - 7, y(value) + 3.5, tickText(value, isLog), "end"),
    ]),
  );
}

// The axis below, with a word for it.
export function stepAxis(box, x, low, high, count, title) {
  return svg(
    "g",
    { class: "axis" },
    svg("line", { class: "frame", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    ticks(low, high, count, true).map((value) => [
      svg("line", { class: "frame", x1: x(value), x2: x(value), y1: box.bottom, y2: box.bottom + 4 }),
      label(x(value), box.bottom + 16, value.toLocaleString("en")),
    ]),
    title ? label((box.left + box.right) / 2, box.bottom + 31, title, "middle", { class: "title" }) : null,
  );
}

// A line through points, interrupted where one of them is missing; points alone are dots.
export function path(points, attributes) {
  let drawn = "";
  let isOpen = false;
  const dots = [];
  points.forEach(([x, y], index) => {
    if (!Number.isFinite(y)) {
      isOpen = false;
      return;
    }
    const isAlone = !isOpen && !Number.isFinite(points[index + 1]?.[1]);
    if (isAlone) dots.push(svg("circle", { cx: x, cy: y, r: 2.5, fill: attributes.stroke }));
    drawn += `${isOpen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    isOpen = true;
  });
  return svg("g", {}, svg("path", { d: drawn, fill: "none", ...attributes }), dots);
}
