// The list of runs: what each is called, what is wrong with it, and which are shown.
import { tone } from "./colours.js";
import { h, term } from "./dom.js";
import { naturally, written } from "./model.js";

const SORTS = {
  name: (a, b) => naturally(a.name, b.name),
  verdict: (a, b) => gravity(a) - gravity(b) || ratio(a) - ratio(b) || naturally(a.name, b.name),
  score: (a, b) => merit(b) - merit(a) || naturally(a.name, b.name),
};

// A score of which more is better; runs without one come last.
function merit(run) {
  if (!run.score) return -Number.MAX_VALUE;
  return /(rmse|perplexity|loss)$/.test(run.score.name) ? -run.score.value : run.score.value;
}

// What is ill comes first.
function gravity(run) {
  return { ill: 0, exploding: 0, unknown: 1, healthy: 2 }[tone(run.verdict)];
}

function ratio(run) {
  const ends = endsOf(run);
  return Math.abs(Math.log10(Number(ends?.key === "dh" ? ends.ratio : run.first_over_last?.end))) * -1 || 0;
}

export function sorted(runs, by) {
  return [...runs].sort(SORTS[by]);
}

// A verdict in its colour; of what the glossary does not know the finding's own cause is the explanation.
export function chip(run) {
  const cause = run.findings?.[0]?.cause;
  const more = cause ? { "data-meaning": cause } : {};
  return h("span", { class: `chip ${tone(run.verdict)}`, tabindex: 0, "data-term": run.verdict, ...more }, run.verdict);
}

// A name that may go on in the next line behind a comma or a slash.
function breakable(name) {
  return name.split(/(?<=[,/])/).flatMap((part, place) => (place ? [h("wbr"), part] : [part]));
}

// With its zeros, so that those of several runs are read one below the other.
function scored(value) {
  return Math.abs(value) >= 1e-3 && Math.abs(value) < 1 ? value.toFixed(3) : written(value);
}

// What the verdict compares: the ends of the depth, or those of time, where it is ill through time. The key of the
// glossary, its words, and the ratio; nothing where it is not known.
export function endsOf(run) {
  if (run.verdict.includes("through time")) {
    const [, early, ratio, late] = /h_(\d+) gets (\S+) times the gradient that h_(\d+) gets/.exec(run.evidence ?? "") ?? [];
    return ratio ? { key: "dh", words: `h_${early}/h_${late}`, ratio } : null;
  }
  const ratio = written(run.first_over_last?.end ?? NaN);
  return ratio === "NaN" ? null : { key: "first/last", words: "first/last", ratio };
}

function row(run, state, actions) {
  const look = state.looks.get(run.name);
  const isShown = state.chosen.has(run.name);
  const swatch = h("span", { class: "swatch", style: `background:${look.colour}` });
  const choose = (event) => actions.choose(run.name, event.shiftKey || event.ctrlKey || event.metaKey);
  const keyed = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(event);
  };
  const ends = endsOf(run);
  return h(
    "div",
    {
      class: `run${isShown ? " shown" : ""}`,
      role: "option",
      tabindex: 0,
      "aria-selected": isShown,
      "data-run": run.name,
      onclick: choose,
      onkeydown: keyed,
    },
    h("div", { class: "name" }, swatch, h("span", {}, breakable(run.name))),
    h("div", { class: "facts" }, chip(run), ends && h("span", {}, term(ends.words, ends.key), ` ${ends.ratio}`)),
    run.score ? h("div", { class: "facts quiet" }, `${run.score.name} ${scored(run.score.value)}`) : null,
  );
}

// The whole list; actions are choose(name, isAdded), all() and sort(by).
export function runList(state, actions) {
  const choice = h(
    "select",
    { "aria-label": "sort by", onchange: (event) => actions.sort(event.target.value) },
    Object.keys(SORTS).map((by) => h("option", { value: by, selected: by === state.sort }, `by ${by}`)),
  );
  const all = h("button", { type: "button", onclick: actions.all }, "show all");
  return h(
    "nav",
    { class: "runs", "aria-label": "runs" },
    h("div", { class: "tools" }, h("b", {}, `${state.runs.length} run${state.runs.length === 1 ? "" : "s"}`), choice, all),
    h("div", { class: "hint" }, "click shows one, shift-click compares"),
    h("div", { role: "listbox", "aria-multiselectable": "true" }, sorted(state.runs, state.sort).map((run) => row(run, state, actions))),
  );
}
