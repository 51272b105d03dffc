// A training: a network, its data, its optimizer, and what each step shows.
import { constantLoss } from "./data.js";
import { randomOf } from "./initialization.js";
import { norm } from "./matrix.js";
import { expected } from "./mean_field.js";
import { backward, crossEntropy, forward, newNetwork, parameters } from "./network.js";
import { OPTIMIZERS } from "./optimizers.js";

export class Training {
  // ``settings`` are those of settings.js, ``problem`` is one of data.js.
  constructor(settings, problem) {
    Object.assign(this, { settings, problem, step: 0, losses: [], memory: [] });
    this.layers = newNetwork({ ...settings, inputs: problem.inputs, classes: problem.classes }, randomOf(settings.seed));
    this.constant = constantLoss(problem.train.y, problem.classes);
    this.order = { random: randomOf(settings.seed + 1), indices: [], at: 0 };
    this.batch = this.nextBatch();
    this.look();
    this.theory = expected(this.layers, this.batch.x, this.batch.y.length, this.deltas);
    this.atStart = this.deltas;
  }

  // The next samples of a shuffled epoch; what is left over at its end is less than a batch, and is shuffled in again.
  nextBatch() {
    const { train, inputs } = this.problem;
    const size = Math.min(this.settings.batch, train.y.length);
    const order = this.order;
    if (order.at + size > order.indices.length) {
      order.indices = train.y.map((_, k) => k);
      for (let k = order.indices.length - 1; k > 0; k -= 1) {
        const other = Math.floor(order.random() * (k + 1));
        [order.indices[k], order.indices[other]] = [order.indices[other], order.indices[k]];
      }
      order.at = 0;
    }
    const chosen = order.indices.slice(order.at, order.at + size);
    order.at += size;
    const x = new Float64Array(size * inputs);
    chosen.forEach((sample, row) => x.set(train.x.subarray(sample * inputs, (sample + 1) * inputs), row * inputs));
    return { x, y: chosen.map((sample) => train.y[sample]) };
  }

  // Forward and backward on the current batch; no weight changes.
  look() {
    const { x, y } = this.batch;
    this.seen = forward(this.layers, x, y.length);
    const { loss, gradient } = crossEntropy(this.seen.at(-1).out, y, y.length, this.problem.classes);
    this.gradients = backward(this.layers, this.seen, gradient, y.length);
    this.loss = loss;
    this.deltas = this.gradients.map((found) => norm(found.delta));
  }

  // One step of the optimizer, and a look at the next batch.
  train() {
    const update = OPTIMIZERS[this.settings.optimizer];
    this.losses.push(this.loss);
    parameters(this.layers, this.gradients).forEach(([w, g], k) => update(w, g, this.settings.rate, (this.memory[k] ??= {})));
    this.step += 1;
    this.batch = this.nextBatch();
    this.look();
  }

  // The mean of the last losses.
  get recentLoss() {
    const recent = [...this.losses.slice(-19), this.loss];
    return recent.reduce((sum, value) => sum + value, 0) / recent.length;
  }

  // Logits (samples, C) in evaluation mode.
  predict(x, samples) {
    return forward(this.layers, x, samples, false).at(-1).out;
  }
}

// The class of each row of logits (B, C).
export function classes(logits, C) {
  return Array.from({ length: logits.length / C }, (_, i) => {
    const row = logits.subarray(i * C, (i + 1) * C);
    return row.indexOf(row.reduce((one, other) => Math.max(one, other)));
  });
}
