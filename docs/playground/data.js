// Data to learn from: three drawings in the plane, and scikit-learn's handwritten digits.
//
// A set is {x: Float64Array (samples, inputs), y: labels}; a problem has one to train on and one that is held out.
import { normal, randomOf } from "./initialization.js";

const [TRAIN, HELD_OUT] = [480, 240];

// Two arms that wind around each other one and a half times.
function spirals(random, k) {
  const label = k % 2;
  const t = Math.sqrt(random()) * 3 * Math.PI;
  const radius = (t + 0.6) / (3 * Math.PI + 0.6);
  const angle = t + label * Math.PI;
  return [radius * Math.cos(angle) + 0.02 * normal(random), radius * Math.sin(angle) + 0.02 * normal(random), label];
}

// A disk, and a ring around it.
function circles(random, k) {
  const label = k % 2;
  const radius = label ? 0.7 + 0.3 * random() : 0.5 * Math.sqrt(random());
  const angle = 2 * Math.PI * random();
  return [radius * Math.cos(angle), radius * Math.sin(angle), label];
}

// Whether both coordinates have the same sign.
function xor(random) {
  const [u, v] = [2 * random() - 1, 2 * random() - 1];
  const away = (value) => value + Math.sign(value) * 0.06;
  return [away(u), away(v), u * v > 0 ? 1 : 0];
}

const DRAWN = { spirals, circles, xor };
export const PROBLEMS = [...Object.keys(DRAWN), "digits"];

function drawnSet(draw, random, count) {
  const points = Array.from({ length: count }, (_, k) => draw(random, k));
  // Twice the coordinates have a variance near 1.
  return { x: Float64Array.from(points.flatMap(([u, v]) => [2 * u, 2 * v])), y: points.map((point) => point[2]) };
}

const SIDE = 64;
const IMAGES = 1797;
const [MEAN, DEVIATION] = [4.884, 6.017]; // of all pixels, from 0 to 16

function digitSet(bytes, from, to) {
  const x = Float64Array.from(bytes.subarray(from * SIDE, to * SIDE), (pixel) => (pixel - MEAN) / DEVIATION);
  return { x, y: [...bytes.subarray(IMAGES * SIDE + from, IMAGES * SIDE + to)] };
}

let digits = null;

// A problem by name: {inputs, classes, train, heldOut}. The digits are fetched once.
export async function problemOf(name, seed) {
  if (name === "digits") {
    digits ??= fetch(new URL("./digits.bin", import.meta.url)).then((answer) => answer.arrayBuffer());
    const bytes = new Uint8Array(await digits);
    return { inputs: SIDE, classes: 10, train: digitSet(bytes, 0, 1437), heldOut: digitSet(bytes, 1437, IMAGES) };
  }
  const random = randomOf(seed + 1000);
  const [train, heldOut] = [TRAIN, HELD_OUT].map((count) => drawnSet(DRAWN[name], random, count));
  return { inputs: 2, classes: 2, train, heldOut };
}

// What a constant prediction costs at best: the entropy of the labels.
export function constantLoss(labels, classes) {
  const counts = new Array(classes).fill(0);
  for (const label of labels) counts[label] += 1;
  return counts.reduce((sum, count) => sum - (count ? (count / labels.length) * Math.log(count / labels.length) : 0), 0);
}
