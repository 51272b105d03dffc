// Puts the page together: settings, the training, and what is drawn of it.
import { drawDeltas, drawHistograms, drawLoss, svg } from "./charts.js";
import { problemOf } from "./data.js";
import { FIELDS, FIXES, fromAddress, toAddress } from "./settings.js";
import { Surface } from "./surface.js";
import { Training } from "./training.js";
import { progressOf, verdictOn } from "./verdict.js";

const BUDGET = 14; // milliseconds of a frame that go into training
const $ = (id) => document.getElementById(id);

let { settings, complaints } = fromAddress(location.hash);
let training = null;
let before = null; // |delta| by layer of the network that was here before the last change
let decades = null;
let isTraining = false;
let frames = 0;
let stepTime = NaN;
const surface = new Surface($("surface"), (accuracy) => {
  $("accuracy").textContent = `${(100 * accuracy).toFixed(1)} % of the held-out ${training.problem.inputs === 2 ? "points" : "digits"} are classified correctly.`;
});

// A network anew; what was there stays as a grey line, where ``isChange``.
async function rebuild(isChange) {
  const problem = await problemOf(settings.data, settings.seed);
  before = isChange && training ? training.atStart : null;
  training = new Training(settings, problem);
  decades = { low: Infinity, high: -Infinity };
  stepTime = NaN;
  $("surfaceTitle").textContent = problem.inputs === 2 ? "Decision surface" : "Held-out digits, and the answers";
  surface.restart(training);
  surface.whole();
  showSettings();
  show();
  document.body.dataset.ready = String(Number(document.body.dataset.ready ?? 0) + 1);
}

function change(changes) {
  settings = { ...settings, ...changes };
  complaints = [];
  history.replaceState(null, "", toAddress(settings));
  return rebuild(true);
}

function show() {
  const { deltas, theory, layers, losses, loss, constant, seen } = training;
  const curves = [
    ...(before ? [{ kind: "before", values: before }] : []),
    ...(theory.some(Number.isFinite) ? [{ kind: "theory", values: theory }] : []),
    { kind: "curve", values: deltas },
  ];
  drawDeltas($("deltas"), curves, layers.length, decades);
  drawHistograms($("histograms"), seen.map(({ a }) => a));
  drawLoss($("loss"), [...losses, loss], constant);
  const verdict = verdictOn(deltas, loss);
  document.querySelector(".verdict").className = `panel verdict ${verdict.name}`;
  $("name").textContent = verdict.name;
  $("evidence").textContent = `${verdict.evidence}.`;
  $("cause").textContent = verdict.cause;
  $("progress").textContent = progressOf(training);
  $("notice").hidden = !complaints.length;
  $("notice").textContent = complaints.length ? `In the address: ${complaints.join("; ")}.` : "";
  $("speed").textContent = Number.isFinite(stepTime) ? `${stepTime.toFixed(1)} ms a step of ${settings.depth} layers in this browser` : "";
}

function keyItem(kind, words) {
  const item = document.createElement("span");
  item.append(svg("svg", { viewBox: "0 0 24 9" }, svg("line", { class: kind, x1: 0, x2: 24, y1: 5, y2: 5 })), words);
  return item;
}

function showSettings() {
  for (const [name, field] of Object.entries(FIELDS)) {
    const input = $("settings").elements[name];
    if (field.isSwitch) input.checked = settings[name];
    else input.value = field.choices ? settings[name] : field.values.indexOf(settings[name]);
    if (field.values) input.closest("label").querySelector("output").textContent = settings[name];
  }
  for (const [name, fix] of Object.entries(FIXES)) {
    $(`fix-${name}`).textContent = fix.title(settings);
    $(`fix-${name}`).setAttribute("aria-pressed", fix.isOn(settings));
  }
  const hasTheory = training.theory.some(Number.isFinite);
  const uncovered = settings.residual ? "residual connections" : `${settings.activation} behind ${settings.normalization} normalization`;
  $("key").replaceChildren(
    keyItem("curve", "measured"),
    hasTheory ? keyItem("theory", "mean-field theory, at the start") : `mean-field theory does not cover ${uncovered}`,
    ...(before ? [keyItem("before", "before the change, at the start")] : []),
  );
  $("spread").textContent = `${settings.activation}${settings.residual ? ", before x is added" : ""}; of the last layer its logits`;
}

function fieldOf(name, field) {
  const label = document.createElement("label");
  const input = document.createElement(field.choices ? "select" : "input");
  input.name = name;
  label.append(field.title);
  if (field.choices) {
    input.append(...field.choices.map((choice) => new Option(choice.replace("_normal", " normal").replace("_", " "), choice)));
  } else if (field.isSwitch) {
    input.type = "checkbox";
  } else {
    Object.assign(input, { type: "range", min: 0, max: field.values.length - 1, step: 1 });
    label.append(document.createElement("output"));
    input.addEventListener("input", () => (label.querySelector("output").textContent = field.values[input.value]));
  }
  input.addEventListener("change", () => {
    change({ [name]: field.isSwitch ? input.checked : field.choices ? input.value : field.values[input.value] });
  });
  label.append(input);
  return label;
}

function run(isOn) {
  isTraining = isOn;
  $("train").textContent = isOn ? "Pause" : "Train";
}

// A frame: as many steps as fit, then what has changed is drawn.
function frame() {
  if (isTraining && training) {
    const started = performance.now();
    let steps = 0;
    do {
      training.train();
      steps += 1;
    } while (performance.now() - started < BUDGET && Number.isFinite(training.loss));
    const each = (performance.now() - started) / steps;
    stepTime = Number.isFinite(stepTime) ? 0.9 * stepTime + 0.1 * each : each;
    if (!Number.isFinite(training.loss)) run(false);
    if (frames % 2 === 0) show();
    surface.advance();
    frames += 1;
  }
  requestAnimationFrame(frame);
}

$("settings").append(...Object.entries(FIELDS).map(([name, field]) => fieldOf(name, field)));
for (const [name, fix] of Object.entries(FIXES)) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", id: `fix-${name}` });
  button.addEventListener("click", () => change(fix.toggled(!fix.isOn(settings), settings)));
  $("fixes").append(button);
}
$("train").addEventListener("click", () => run(!isTraining));
$("one").addEventListener("click", () => {
  run(false);
  training.train();
  surface.whole();
  show();
});
$("again").addEventListener("click", () => {
  run(false);
  rebuild(false);
});
addEventListener("hashchange", () => {
  ({ settings, complaints } = fromAddress(location.hash));
  rebuild(true);
});
addEventListener("resize", () => training && show());
rebuild(false);
requestAnimationFrame(frame);
