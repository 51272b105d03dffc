// |dL/dh_t| by t: in the first steps, at the slider's, and as a map by t and step.
import { label, path, scale, ticks, yAxis } from "./axes.js";
import { grouped, key, profile } from "./depth.js";
import { h, svg, term } from "./dom.js";
import { saving } from "./export.js";
import { mapsPanel } from "./maps.js";
import { cellNumber, extent, medianOf } from "./model.js";

const HEIGHT = 290;
const FIRST = 10;

// By row the median over the first steps that were measured.
export function opening(matrix) {
  const count = Math.min(FIRST, matrix.steps.length);
  return matrix.layers.map((t, row) => medianOf(Array.from({ length: count }, (_, column) => matrix.value(row, column))));
}

// Line chart and maps of one recurrent layer; states has a matrix for each run, whose rows are the times t.
export function timePanels(state, layer, layers, width, tip, actions) {
  const states = new Map([...state.states].filter(([, found]) => found[layer]).map(([name, found]) => [name, found[layer]]));
  if (!states.size) return [];
  const [low, high] = extent(states.values());
  const times = [...new Set([...states.values()].flatMap((m) => m.layers.map(Number)))].sort((a, b) => a - b);
  const box = { left: 52, right: width - 12, top: 12, bottom: HEIGHT - 40 };
  const x = scale(times[0], times[times.length - 1], box.left + 10, box.right - 10);
  const y = scale(low, high, box.bottom, box.top);
  const groups = grouped(states);
  const lines = [...groups].map(([name, group]) => {
    const [[run, first]] = group;
    const look = state.looks.get(run);
    const at = (row) => x(Number(first.layers[row]));
    const now = profile(group, state.step).map((p) => [at(p.row), y(p.middle)]);
    const begin = opening(first).map((value, row) => [at(row), y(value)]);
    return svg(
      "g",
      { class: "curve", "data-group": name },
      path(begin, { class: "opening", stroke: look.colour, "stroke-width": 1.5, "stroke-dasharray": "3 4" }),
      path(now, { stroke: look.colour, "stroke-width": 2.2, "stroke-dasharray": look.dash }),
    );
  });
  const drawing = svg(
    "svg",
    { class: "chart time", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": "gradient by time" },
    yAxis(box, y, low, high, true),
    svg("line", { class: "frame", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    ticks(times[0], times[times.length - 1], 8, true).map((t) => label(x(t), box.bottom + 16, String(t), "middle")),
    label(box.left, HEIGHT - 4, "long past", "start", { class: "title" }),
    label((box.left + box.right) / 2, HEIGHT - 4, "time t  ← the gradient runs this way", "middle", { class: "title" }),
    label(box.right, HEIGHT - 4, "last", "end", { class: "title" }),
    lines,
  );
  const table = () => [
    ["run", "t", "step", "|dL/dh_t|"],
    ...[...states].flatMap(([name, m]) =>
      m.layers.map((t, row) => [name, t, m.steps[m.columnAt(state.step)], cellNumber(m, row, m.columnAt(state.step))]),
    ),
  ];
  const choice = h(
    "select",
    { "aria-label": "recurrent layer", onchange: (event) => actions.recurrent(event.target.value) },
    layers.map((name) => h("option", { value: name, selected: name === layer }, name)),
  );
  const about = [term("step"), ` ${state.step.toLocaleString("en")} · dashed: the `, term("first steps")];
  const chart = h(
    "section",
    { class: "panel" },
    h("header", {}, h("h2", {}, term("Through time", "dh")), choice, h("span", { class: "about" }, about), saving("gradients_by_time", () => drawing, table)),
    key(groups, state),
    drawing,
  );
  const maps = mapsPanel(states, state, width, tip, {
    title: "Through time, by step",
    about: [term("one colour scale")],
    name: "gradients_by_time_and_step",
    above: "last t",
    below: "first",
    row: "t",
    isTime: true,
    open: (run) => actions.open(run, layer),
  });
  return [maps, chart];
}
