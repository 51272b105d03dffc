// What can be chosen, and the address that holds it: #data=spirals&depth=20&activation=sigmoid …
import { ACTIVATIONS, IS_RECTIFIER } from "./activations.js";
import { PROBLEMS } from "./data.js";
import { INITIALIZATIONS } from "./initialization.js";
import { OPTIMIZERS } from "./optimizers.js";

// In the order of the page. A range has ``values`` (each place of its slider); a choice has ``choices``.
export const FIELDS = {
  data: { title: "data", choices: PROBLEMS, value: "spirals" },
  depth: { title: "depth, layers", values: range(2, 50), value: 20 },
  width: { title: "width, units", values: [2, 4, 8, 16, 24, 32, 48, 64, 96, 128], value: 32 },
  activation: { title: "activation", choices: Object.keys(ACTIVATIONS), value: "sigmoid" },
  initialization: { title: "initialization", choices: Object.keys(INITIALIZATIONS), value: "default" },
  scale: { title: "its scale", values: [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10], value: 1 },
  normalization: { title: "normalization", choices: ["none", "batch", "layer"], value: "none" },
  residual: { title: "residual", isSwitch: true, value: false },
  optimizer: { title: "optimizer", choices: Object.keys(OPTIMIZERS), value: "adam" },
  rate: { title: "learning rate", values: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1], value: 3e-3 },
  batch: { title: "batch, samples", values: [8, 16, 32, 64, 128, 256], value: 64 },
  seed: { title: "seed", values: range(0, 20), value: 0 },
};

function range(from, to) {
  return Array.from({ length: to - from + 1 }, (_, k) => from + k);
}

export const DEFAULTS = Object.fromEntries(Object.entries(FIELDS).map(([name, field]) => [name, field.value]));

// The settings that an address holds, and a line for each part of it that could not be taken.
export function fromAddress(hash) {
  const [settings, complaints] = [{ ...DEFAULTS }, []];
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const field = FIELDS[name];
    const value = field && parsed(field, text);
    if (!field) complaints.push(`${name} is not a setting; the settings are ${Object.keys(FIELDS).join(", ")}`);
    else if (value === undefined) complaints.push(`${name} cannot be ${text}; choose ${allowed(field)} (now ${settings[name]})`);
    else settings[name] = value;
  }
  return { settings, complaints };
}

function parsed(field, text) {
  if (field.isSwitch) return { true: true, false: false }[text];
  if (field.choices) return field.choices.find((choice) => choice === text);
  return field.values.find((value) => value === Number(text));
}

function allowed({ isSwitch, choices, values }) {
  if (isSwitch) return "true or false";
  if (choices) return `one of ${choices.join(", ")}`;
  const isWhole = values.length === values.at(-1) - values[0] + 1;
  return isWhole ? `a whole number from ${values[0]} to ${values.at(-1)}` : `one of ${values.join(", ")}`;
}

// Only what differs from the defaults.
export function toAddress(settings) {
  const differing = Object.entries(settings).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(differing)}`;
}

// The four fixes: what each is called here, whether it is there, and what putting it in or taking it out changes.
export const FIXES = {
  relu: {
    title: () => "ReLU",
    isOn: ({ activation }) => activation === "relu",
    toggled: (on) => ({ activation: on ? "relu" : "sigmoid" }),
  },
  initialization: {
    title: ({ activation }) => `${IS_RECTIFIER.has(activation) ? "He" : "Xavier"} initialization`,
    isOn: ({ initialization }) => initialization === "he_normal" || initialization === "xavier_normal",
    toggled: (on, { activation }) => ({ initialization: !on ? "default" : IS_RECTIFIER.has(activation) ? "he_normal" : "xavier_normal" }),
  },
  batch: {
    title: () => "Batch normalization",
    isOn: ({ normalization }) => normalization === "batch",
    toggled: (on) => ({ normalization: on ? "batch" : "none" }),
  },
  residual: {
    title: () => "Residual connections",
    isOn: ({ residual }) => residual,
    toggled: (on) => ({ residual: on }),
  },
};
