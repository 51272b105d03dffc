// The bar above the charts: which quantity, and which step.
import { h, term } from "./dom.js";
import { inOrder } from "./glossary.js";

const SECONDS = 8;

// By name the titles of the quantities that any of some runs has, in the order of the menu.
export function titlesOf(runs) {
  const titles = new Map(runs.flatMap((run) => Object.entries(run.titles)));
  return new Map([...titles].sort(([a], [b]) => inOrder(a, b)));
}

// Moves through the steps; step(index) is called with the place among them.
export class Player {
  constructor(step) {
    this.step = step;
    this.steps = [];
    this.slider = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "step" });
    this.button = h("button", { type: "button", class: "play", "aria-label": "play", onclick: () => this.toggle() }, "▶");
    this.shown = h("output", {});
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
  }

  // The steps that there are now; the place stays, or is the last.
  among(steps, isKept) {
    const step = this.steps[this.index];
    this.steps = steps;
    this.slider.max = Math.max(steps.length - 1, 0);
    const kept = steps.indexOf(step);
    this.go(isKept && kept >= 0 ? kept : steps.length - 1);
  }

  get index() {
    return Number(this.slider.value);
  }

  go(index) {
    this.slider.value = Math.min(Math.max(index, 0), this.steps.length - 1);
    this.shown.textContent = (this.steps[this.index] ?? 0).toLocaleString("en");
    this.step(this.steps[this.index] ?? 0);
  }

  toggle() {
    if (this.timer) return this.stop();
    if (this.index >= this.steps.length - 1) this.go(0);
    const begin = performance.now();
    const from = this.index;
    this.button.textContent = "❚❚";
    this.timer = setInterval(() => {
      const share = (performance.now() - begin) / 1000 / SECONDS;
      this.go(Math.round(from + share * this.steps.length));
      if (this.index >= this.steps.length - 1) this.stop();
    }, 40);
    return undefined;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.button.textContent = "▶";
  }
}

// The bar itself.
export function bar(state, player, actions) {
  const choice = h(
    "select",
    { "aria-label": "quantity", onchange: (event) => actions.quantity(event.target.value) },
    [...titlesOf(state.runs)].map(([name, title]) => h("option", { value: name, selected: name === state.quantity }, title)),
  );
  return h(
    "div",
    { class: "bar" },
    h("label", {}, term("quantity", state.quantity), choice),
    h("label", { class: "steps" }, player.button, term("step"), player.slider, player.shown),
  );
}
