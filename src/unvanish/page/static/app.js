// The whole: what is shown, and what happens on a click.
import { bar, Player, titlesOf } from "./bar.js";
import { cards, headline } from "./cards.js";
import { lineLook } from "./colours.js";
import { depthChart } from "./depth.js";
import { h, term, Tip } from "./dom.js";
import { focusing } from "./focus.js";
import { layerPanel } from "./layer.js";
import { mapsPanel } from "./maps.js";
import { groupOf, naturally, stepsOf } from "./model.js";
import { runList, sorted } from "./runs.js";
import { timePanels } from "./time.js";

const POLL = 30000;
// A layer's curves are asked for run by run.
const TOGETHER = 12;
const SHALLOW = 3;
// Points of a curve: as many as a map has columns at first, which is quick, and then all that TensorBoard keeps.
const FEW = 200;
const ALL = 1000;

// Shows the runs of a source (see model.js) in an element, which becomes all theirs.
export async function show(root, source) {
  root.classList.add("unvanish");
  follow(root);
  const app = new App(root, source);
  await app.load();
  if (source.isLive) setInterval(() => document.hidden || app.refresh(), POLL);
  return app;
}

// Dark where TensorBoard is, or else where the reader's system is.
function follow(root) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    outer = window.parent !== window && window.parent.document.querySelector("tb-webapp") ? window.parent.document.body : null;
  } catch {
    // The page around it is none of ours to see.
  }
  const look = () => {
    const isDark = outer ? outer.classList.contains("dark-mode") : system.matches;
    root.classList.toggle("dark", isDark);
    document.documentElement.style.colorScheme = isDark ? "dark" : "light";
  };
  if (outer) new MutationObserver(look).observe(outer, { attributes: true, attributeFilter: ["class"] });
  else system.addEventListener("change", look);
  look();
}

class App {
  constructor(root, source) {
    this.source = source;
    this.root = root;
    this.tip = new Tip(root);
    focusing(root);
    this.asked = 0;
    this.state = {
      ...{ runs: [], byName: new Map(), looks: new Map(), chosen: new Set(), sort: "verdict", quantity: "delta" },
      ...{ step: 0, matrices: new Map(), states: new Map(), layer: null, recurrent: "", markers: [] },
    };
    this.list = h("div", { class: "left" });
    this.top = h("div", { class: "top" });
    this.maps = h("div", { class: "slot" });
    this.detail = h("div", { class: "slot" });
    this.depth = h("div", { class: "slot" });
    this.time = h("div", { class: "slot" });
    this.cards = h("div", { class: "slot" });
    this.head = h("div");
    this.main = h("main");
    root.append(h("div", { class: "page" }, this.list, this.main));
    this.player = new Player((step) => this.moved(step));
    this.actions = {
      choose: (name, isAdded) => this.choose(name, isAdded),
      all: () => this.showOnly(this.state.runs.map((run) => run.name)),
      sort: (by) => {
        this.state.sort = by;
        this.drawList();
        this.update(true);
      },
      quantity: (name) => {
        this.state.quantity = name;
        this.update(true);
      },
      open: (run, layer) => this.open(run, layer),
      recurrent: (layer) => {
        this.state.recurrent = layer;
        this.drawTime();
      },
    };
    let waiting = 0;
    new ResizeObserver(() => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => this.main.clientWidth !== this.drawnAt && this.draw());
    }).observe(this.main);
    document.addEventListener("keydown", (event) => this.keyed(event));
  }

  // Asks for the runs; what was chosen stays chosen, and new runs are shown.
  async load() {
    const before = this.state.byName;
    const runs = await this.source.runs();
    runs.sort((a, b) => naturally(a.name, b.name));
    const groups = [...new Set(runs.map((run) => groupOf(run.name)))];
    const state = this.state;
    state.runs = runs;
    state.byName = new Map(runs.map((run) => [run.name, run]));
    state.looks = new Map(runs.map((run) => [run.name, lineLook(groups.indexOf(groupOf(run.name)))]));
    state.chosen = new Set(runs.map((run) => run.name).filter((name) => !before.has(name) || state.chosen.has(name)));
    const titles = titlesOf(runs);
    if (!titles.has(state.quantity)) [state.quantity = "delta"] = titles.keys();
    this.root.classList.toggle("nothing", !runs.length);
    // Of one run in a notebook's cell there is nothing to choose.
    this.root.classList.toggle("alone", runs.length === 1 && !this.source.isLive);
    if (!runs.length) {
      this.main.replaceChildren(h("p", { class: "empty" }, "No run with gradients here yet: GradientMonitor in a Trainer's callbacks writes them."));
      return;
    }
    this.drawList();
    await this.update(before.size > 0);
  }

  async refresh() {
    const stamps = (runs) => runs.map((run) => `${run.name} ${run.stamp} ${run.verdict}`).join("\n");
    const runs = await this.source.runs().catch(() => null);
    if (!runs || stamps([...runs].sort((a, b) => naturally(a.name, b.name))) === stamps(this.state.runs)) return;
    await this.load();
  }

  choose(name, isAdded) {
    const { chosen } = this.state;
    if (!isAdded) return this.showOnly(chosen.size === 1 && chosen.has(name) ? this.state.runs.map((run) => run.name) : [name]);
    if (!chosen.delete(name)) chosen.add(name);
    return this.showOnly(chosen.size ? [...chosen] : [name]);
  }

  showOnly(names) {
    this.state.chosen = new Set(names);
    this.drawList();
    return this.update(true);
  }

  // Fetches what is to be shown, and draws it; of several calls the last counts.
  async update(isKept) {
    const turn = (this.asked += 1);
    const { state, source } = this;
    const shown = sorted(state.runs, state.sort).filter((run) => state.chosen.has(run.name));
    const having = shown.filter((run) => Object.hasOwn(run.titles, state.quantity)).map((run) => run.name);
    const recurrent = shown.filter((run) => run.recurrent?.length).map((run) => run.name);
    const [matrices, states] = await Promise.all([
      having.length ? source.matrices(having, state.quantity, FEW) : new Map(),
      recurrent.length ? source.times(recurrent) : new Map(),
    ]);
    if (turn !== this.asked) return;
    const inOrder = (found) => new Map(shown.filter((run) => found.has(run.name)).map((run) => [run.name, found.get(run.name)]));
    state.matrices = inOrder(matrices);
    state.states = inOrder(states);
    this.top.replaceChildren(bar(state, this.player, this.actions));
    this.draw();
    this.player.among(stepsOf(state.matrices.values()), isKept);
    this.root.classList.toggle("one-step", this.player.steps.length < 2);
    this.root.dataset.drawn = String(turn);
    performance.mark("drawn");
    if (state.layer) await this.open(state.layer.run, state.layer.name);
    if (!source.isLive || ![...matrices.values()].some((matrix) => matrix.steps.length >= FEW)) return;
    const whole = await source.matrices(having, state.quantity, ALL);
    if (turn !== this.asked) return;
    state.matrices = inOrder(whole);
    this.draw();
    this.player.among(stepsOf(state.matrices.values()), true);
    this.root.dataset.whole = String(turn);
  }

  get width() {
    return Math.max(this.main.clientWidth - 46, 420);
  }

  draw() {
    const { state } = this;
    if (!state.runs.length) return;
    this.drawnAt = this.main.clientWidth;
    state.markers = [];
    const [some] = state.matrices.values();
    const charted = state.runs.filter((run) => state.matrices.has(run.name) && run.layers.filter((layer) => !layer.endsWith("+")).length > state.matrices.get(run.name).layers.length);
    const few = charted.length && state.quantity === "delta" ? " · of many layers some, evenly spaced, have curves" : "";
    const title = some?.title ?? state.quantity;
    this.maps.replaceChildren(
      mapsPanel(state.matrices, state, this.width, this.tip, {
        title: `${title}, by layer and step`,
        about: [term("one colour scale"), some?.log ? ", " : "", some?.log ? term("powers of ten", "log10") : "", few],
        name: `${state.quantity}_by_layer_and_step`,
        above: "loss",
        below: "input",
        row: "",
        isTime: false,
        open: (run, layer) => this.open(run, layer),
      }),
    );
    this.cards.replaceChildren(cards(state) ?? "");
    // The few layers of a recurrent network say less than its time does.
    const isShallow = [...state.matrices.values()].every((matrix) => matrix.layers.length <= SHALLOW);
    // Of one step a map shows nothing that a line does not show better.
    const isOneStep = stepsOf(state.matrices.values()).length < 2;
    const byLayer = isOneStep ? [this.depth, this.maps, this.detail] : [this.maps, this.detail, this.depth];
    const order = isShallow && state.states.size ? [this.time, ...byLayer] : [...byLayer, this.time];
    this.main.append(this.top, this.head, ...order, this.cards);
    this.head.replaceChildren(headline(state) ?? "");
    this.moved(state.step);
  }

  drawList() {
    this.list.replaceChildren(runList(this.state, this.actions));
  }

  drawTime() {
    const layers = [...new Set([...this.state.states.values()].flatMap((found) => Object.keys(found)))];
    const layer = layers.includes(this.state.recurrent) ? this.state.recurrent : layers[0];
    const { markers } = this.state;
    markers.length = this.mapMarkers ?? markers.length;
    this.mapMarkers = markers.length;
    this.time.replaceChildren(...(layer ? timePanels(this.state, layer, layers, this.width, this.tip, this.actions) : []));
  }

  // Another step: the lines follow, the maps keep their pictures.
  moved(step) {
    const { state } = this;
    state.step = step;
    if (!state.runs.length) return;
    this.depth.replaceChildren(depthChart(state, this.width, this.tip));
    this.mapMarkers = [...this.maps.querySelectorAll(".marker")].length;
    this.drawTime();
    for (const move of state.markers) move(step);
  }

  async open(run, name) {
    const { state } = this;
    state.layer = { run, name };
    const others = [...state.matrices].filter(([other, matrix]) => other !== run && matrix.rows.has(name));
    const asked = [run, ...others.map(([other]) => other)].slice(0, TOGETHER).filter((one) => state.matrices.has(one));
    if (!asked.length) return this.close();
    const found = await Promise.all(asked.map((one) => this.source.layer(one, name)));
    const byRun = new Map(asked.map((one, index) => [one, found[index]]));
    this.detail.replaceChildren(layerPanel(run, name, byRun, state, this.width, () => this.close()));
    this.detail.scrollIntoView({ block: "nearest", behavior: "smooth" });
    return undefined;
  }

  close() {
    this.state.layer = null;
    this.detail.replaceChildren();
  }

  keyed(event) {
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.nodeName)) return;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) this.player.go(this.player.index + move);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
  }
}
