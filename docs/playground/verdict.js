// What the gradient does, in words, by the thresholds and in the words of unvanish's judge (judge/rules/depth.py).

const VANISHED = 1e-3; // a factor of 0.7 a layer over 20 layers

const CAUSE = {
  vanishing:
    "Each layer multiplies the gradient by its weights and by its activation's derivative; where that product is below one, the gradient shrinks with depth and the early layers barely change.",
  exploding:
    "Each layer multiplies the gradient by its weights and by its activation's derivative; where that product is above one, the gradient grows with depth and the early layers take steps that are far too large.",
  healthy: "The gradient reaches every layer.",
  nan: "A value has left the range of its number format, often after a learning rate that was too high.",
  dead: "A layer that returns a constant passes no gradient on, and what lies before it learns nothing any more.",
};

// Two digits, as 6.1e-17 or 0.14.
export function short(value, digits = 2) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e4)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

// deltas: |delta| of each layer, the first first. -> {name, ratio, factor, evidence, cause}
export function verdictOn(deltas, loss) {
  const [first, last, L] = [deltas[0], deltas.at(-1), deltas.length];
  const told = (name, evidence, ratio = NaN, factor = NaN) => ({ name, ratio, factor, evidence, cause: CAUSE[name] });
  if (!Number.isFinite(loss) || !deltas.every(Number.isFinite)) return told("nan", `The loss is ${loss}`);
  if (deltas.includes(0)) {
    const silent = deltas.lastIndexOf(0);
    const count = deltas.filter((value) => value === 0).length;
    const hasShrunk = last > 0 && deltas[silent + 1] / last < VANISHED;
    return told(hasShrunk ? "vanishing" : "dead", `|δ| is exactly 0 in ${count} of ${L} layers, the deepest of them layer ${silent + 1}`, first / last);
  }
  const ratio = first / last;
  const factor = ratio ** (1 / (L - 1));
  const name = ratio < VANISHED ? "vanishing" : ratio > 1 / VANISHED ? "exploding" : "healthy";
  return told(name, `Layer 1 gets ${short(ratio)} times the gradient that layer ${L} gets, a factor of ${short(factor, 3)} a layer`, ratio, factor);
}

// Whether it learns, beside what a constant prediction costs at best.
export function progressOf({ step, recentLoss, constant }) {
  if (!step) return "Nothing has been trained yet.";
  const steps = `After ${step.toLocaleString("en")} step${step > 1 ? "s" : ""} the loss is ${recentLoss.toFixed(3)}`;
  if (!Number.isFinite(recentLoss)) return `${steps}.`;
  if (recentLoss > 0.95 * constant) return `${steps}; a constant prediction has ${constant.toFixed(3)}, so it has learnt next to nothing.`;
  return `${steps}, where a constant prediction has ${constant.toFixed(3)}: it learns.`;
}
