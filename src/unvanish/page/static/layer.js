// One layer: all that was measured of it, by step, in every run that is shown, and its histogram.
import { label, path, scale, stepAxis, ticks, yAxis } from "./axes.js";
import { h, svg, term } from "./dom.js";
import { saving } from "./export.js";
import { inOrder } from "./glossary.js";
import { cellNumber, extent, stepsOf } from "./model.js";

const HEIGHT = 170;
const NARROW = 260;
const GAP = 14;

// The places of a small chart's edges.
function inside(width) {
  return { left: 48, right: width - 16, top: 10, bottom: HEIGHT - 24 };
}

function curves(name, found, state, width) {
  const box = inside(width);
  const entries = [...found].filter(([, layer]) => layer.quantities[name]).map(([run, layer]) => [run, layer.quantities[name]]);
  const matrices = entries.map(([, matrix]) => matrix);
  const [low, high] = extent(matrices);
  const steps = stepsOf(matrices);
  const x = scale(steps[0], steps[steps.length - 1], box.left, box.right);
  const y = scale(low, high, box.bottom, box.top);
  const drawing = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": matrices[0].title },
    yAxis(box, y, low, high, matrices[0].log, 4),
    stepAxis(box, x, steps[0], steps[steps.length - 1], 4, ""),
    entries.map(([run, matrix]) => {
      const look = state.looks.get(run);
      const points = matrix.steps.map((step, column) => [x(step), y(matrix.value(0, column))]);
      return svg("g", { "data-run": run }, path(points, { stroke: look.colour, "stroke-width": 1.6, "stroke-dasharray": look.dash }));
    }),
  );
  const table = () => [
    ["run", "step", matrices[0].title],
    ...entries.flatMap(([run, m]) => m.steps.map((step, column) => [run, step, cellNumber(m, 0, column)])),
  ];
  return h(
    "figure",
    { "data-quantity": name, style: `width:${width}px` },
    h("figcaption", {}, term(matrices[0].title, name), saving(`layer_${name}`, () => drawing, table)),
    drawing,
  );
}

function histogram(run, found, width) {
  const box = inside(width);
  const bars = found.buckets;
  const low = Math.floor(bars[0][0]);
  const high = Math.ceil(bars[bars.length - 1][1]);
  const most = Math.max(...bars.map((bar) => bar[2]));
  const x = scale(low, high, box.left, box.right);
  const y = scale(0, most, box.bottom, box.top);
  const drawing = svg(
    "svg",
    { class: "chart histogram", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": "histogram of the weight gradient" },
    yAxis(box, y, 0, most, false, 3),
    bars.map(([from, to, count]) =>
      svg("rect", { class: "bar", x: x(from) + 0.5, width: Math.max(x(to) - x(from) - 1, 1), y: y(count), height: box.bottom - y(count) }),
    ),
    svg("line", { class: "frame", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    ticks(low, high, 5, true).map((value) => label(x(value), box.bottom + 16, `1e${value}`)),
  );
  const table = () => [["log10 from", "log10 to", "count"], ...bars];
  const words = [term("histogram"), ` of ∂L/∂W, ${run}, step ${found.step.toLocaleString("en")}`];
  return h("figure", { "data-quantity": "histogram", style: `width:${width}px` }, h("figcaption", {}, h("span", {}, words), saving("histogram", () => drawing, table)), drawing);
}

// The panel of a layer of a run; found has by run what its source says of the layer.
export function layerPanel(run, layer, found, state, width, close) {
  const names = [...new Set([...found.values()].flatMap((one) => Object.keys(one.quantities)))].sort(inOrder);
  const columns = Math.max(1, Math.floor((width + GAP) / (NARROW + GAP)));
  const each = Math.floor((width - GAP * (columns - 1)) / columns);
  const own = found.get(run)?.histogram;
  return h(
    "section",
    { class: "panel layer", "data-layer": layer },
    h("header", {}, h("h2", {}, term("layer"), ` ${layer}`), h("span", { class: "about" }, `by step, in ${found.size} run${found.size === 1 ? "" : "s"}`), h("button", { type: "button", onclick: close, "aria-label": "close" }, "✕")),
    h("div", { class: "small" }, names.map((name) => curves(name, found, state, each)), own?.buckets.length ? histogram(run, own, each) : null),
  );
}
