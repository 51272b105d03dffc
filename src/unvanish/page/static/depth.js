// A quantity by depth at one step: a line for each run, or for runs that differ by their seed alone.
import { h, svg, term } from "./dom.js";
import { label, layerTicks, path, scale, yAxis } from "./axes.js";
import { saving } from "./export.js";
import { cellNumber, cellText, extent, groupOf, medianOf } from "./model.js";

const HEIGHT = 340;

// Of each group its matrices by run, in the order of the runs.
export function grouped(matrices) {
  const groups = new Map();
  for (const [name, matrix] of matrices) {
    const group = groupOf(name);
    if (!groups.has(group)) groups.set(group, new Map());
    groups.get(group).set(name, matrix);
  }
  return groups;
}

// By row the median at a step, and the smallest and the largest.
export function profile(group, step) {
  const members = [...group.values()];
  const [first] = members;
  return first.layers.map((layer, row) => {
    const values = members.map((matrix) => {
      const at = matrix.rows.get(layer);
      return at === undefined ? NaN : matrix.value(at, matrix.columnAt(step));
    });
    const known = values.filter(Number.isFinite);
    return { row, layer, middle: medianOf(values), low: Math.min(...known), high: Math.max(...known) };
  });
}

function band(points, x, y, colour) {
  const known = points.filter((point) => Number.isFinite(point.middle));
  if (!known.length) return null;
  const edge = [...known.map((p) => [x(p.row), y(p.high)]), ...known.reverse().map((p) => [x(p.row), y(p.low)])];
  return svg("polygon", { points: edge.map((pair) => pair.join(",")).join(" "), fill: colour, opacity: 0.22 });
}

// What has no place on the scale, at its edges: zeros below, NaN and infinity above.
function odd(group, step, x, box, colour) {
  return [...group.values()].flatMap((matrix) => {
    const column = matrix.columnAt(step);
    return matrix.layers.flatMap((layer, row) => {
      const kind = matrix.kind(row, column);
      if (!kind || kind === "missing") return [];
      const isZero = kind === "zero";
      return label(x(row), isZero ? box.bottom - 3 : box.top + 11, isZero ? "▽" : "✕", "middle", { style: `fill:${colour}`, class: "odd" });
    });
  });
}

// The chart; what is drawn is in state.matrices, a map by run of matrices, and state.step.
export function depthChart(state, width, tip) {
  const groups = grouped(state.matrices);
  const [some] = state.matrices.values();
  if (!some) return h("div", { class: "empty" }, "no run that is shown has this quantity");
  const theories = state.quantity === "delta" ? theoryOf(state) : [];
  let [low, high] = extent(state.matrices.values());
  for (const { values } of theories) {
    const known = [...values.values()].filter(Number.isFinite);
    [low, high] = [Math.min(low, ...known), Math.max(high, ...known)];
  }
  const margin = (high - low) * 0.04;
  [low, high] = [low - margin, high + margin];
  const deepest = [...state.matrices.values()].reduce((a, b) => (b.layers.length > a.layers.length ? b : a));
  const isAlike = [...state.matrices.values()].every((m) => m.layers.length === deepest.layers.length);
  const right = width - 12;
  const names = layerTicks(deepest.layers, Math.max(2, Math.min(20, Math.floor((right - 72) / 46))), 13);
  const longest = isAlike ? Math.max(...names.map((tick) => tick.name.length)) : 3;
  const isLevel = 6.4 * longest < (right - 72) / Math.max(names.length - 1, 1);
  const box = { left: 52, right, top: 12, bottom: HEIGHT - 36 - (isLevel ? 4 : 3.7 * longest) };
  const x = scale(0, Math.max(deepest.layers.length - 1, 1), box.left + 10, box.right - 10);
  const y = scale(low, high, box.bottom, box.top);
  const lines = [...groups].map(([name, group]) => {
    const look = state.looks.get(group.keys().next().value);
    const points = profile(group, state.step);
    return svg(
      "g",
      { class: "curve", "data-group": name },
      group.size > 1 ? band(points, x, y, look.colour) : null,
      path(points.map((p) => [x(p.row), y(p.middle)]), { stroke: look.colour, "stroke-width": 2.2, "stroke-dasharray": look.dash }),
      odd(group, state.step, x, box, look.colour),
    );
  });
  const expected = theories.map(({ name, values, layers }) => {
    const points = layers.map((layer, row) => [x(row), y(values.get(layer) ?? NaN)]);
    return path(points, { class: "theory", "data-run": name, stroke: state.looks.get(name).colour, "stroke-width": 1.4, "stroke-dasharray": "3 4" });
  });
  const drawing = svg(
    "svg",
    { class: "chart depth", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${some.title} by depth` },
    yAxis(box, y, low, high, some.log),
    svg("line", { class: "frame", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    names.map(({ row, name }) => {
      const words = isAlike ? name : String(row + 1);
      const at = [x(row) + 4, box.bottom + 14];
      if (!isLevel) return label(...at, words, "end", { transform: `rotate(-35 ${at.join(" ")})` });
      const half = 3.2 * words.length;
      return label(Math.min(Math.max(x(row), half + 2), width - half - 2), box.bottom + 16, words);
    }),
    label(box.left, HEIGHT - 4, "input", "start", { class: "title" }),
    label((box.left + box.right) / 2, HEIGHT - 4, "← the gradient runs this way", "middle", { class: "title" }),
    label(box.right, HEIGHT - 4, "loss", "end", { class: "title" }),
    expected,
    lines,
  );
  drawing.addEventListener("mousemove", (event) => {
    const place = drawing.getBoundingClientRect();
    const at = ((event.clientX - place.left) / place.width) * width;
    const row = Math.round(((at - box.left - 10) / (box.right - box.left - 20)) * (deepest.layers.length - 1));
    if (row < 0 || row >= deepest.layers.length) return tip.hide();
    const told = [...state.matrices].filter(([, matrix]) => row < matrix.layers.length);
    const lines = told.slice(0, 16).map(([name, m]) => `${name}: ${cellText(m, row, m.columnAt(state.step))}`);
    return tip.show([`${deepest.layers[row]}, step ${state.step}`, ...lines], event.clientX, event.clientY);
  });
  drawing.addEventListener("mouseleave", () => tip.hide());
  const table = () => [
    ["run", "layer", "step", some.title],
    ...[...state.matrices].flatMap(([name, m]) =>
      m.layers.map((layer, row) => [name, layer, m.steps[m.columnAt(state.step)], cellNumber(m, row, m.columnAt(state.step))]),
    ),
  ];
  const about = [term("step"), ` ${state.step.toLocaleString("en")}`];
  if (theories.length) about.push(" · dashed: ", term("theory"));
  if ([...groups.values()].some((group) => group.size > 1)) about.push(" · shaded: ", term("spread over seeds", "spread"));
  return h(
    "section",
    { class: "panel" },
    h("header", {}, h("h2", {}, "By depth"), h("span", { class: "about" }, about), saving("gradients_by_depth", () => drawing, table)),
    key(groups, state),
    drawing,
  );
}

function theoryOf(state) {
  const seen = new Set();
  return state.runs
    .filter((run) => state.matrices.has(run.name) && run.theory && Object.keys(run.theory).length)
    .filter((run) => !seen.has(groupOf(run.name)) && seen.add(groupOf(run.name)))
    .map((run) => ({
      name: run.name,
      layers: state.matrices.get(run.name).layers,
      values: new Map(Object.entries(run.theory).map(([layer, value]) => [layer, Number(value)])),
    }));
}

// Which line is which run.
export function key(groups, state) {
  if (groups.size < 2) return null;
  return h(
    "div",
    { class: "key" },
    [...groups].map(([name, group]) => {
      const look = state.looks.get(group.keys().next().value);
      const line = svg("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: look.colour, "stroke-width": 3, "stroke-dasharray": look.dash });
      return h("span", { "data-group": name }, svg("svg", { width: 22, height: 10 }, line), name);
    }),
  );
}

