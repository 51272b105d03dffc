// A multilayer perceptron, forward and backward, written out.
//
// Shapes: B samples in a batch, n inputs and m units of a layer, C classes, L layers with weights.
//   x (B, n)       what a layer takes: the data, or what the layer before it has returned
//   W (m, n), b (m)  its weights and biases
//   z (B, m)       x Wᵀ + b
//   y (B, m)       z normalized, or z itself
//   a (B, m)       phi(y), the activation
//   out (B, m)     a, or x + a where the layer is residual; the last layer returns its z, the logits
//   delta (B, m)   dL/dz, which the backward pass carries from the last layer to the first
import { ACTIVATIONS } from "./activations.js";
import { weightsOf } from "./initialization.js";
import { timesTransposed, transposed } from "./matrix.js";
import { newNormalization, normalize, normalizeBackward } from "./normalization.js";

// L layers: L - 1 hidden ones of ``width`` units, and an output layer of ``classes``.
export function newNetwork({ inputs, classes, depth, width, activation, initialization, scale, normalization, residual }, random) {
  const layers = [];
  for (let l = 0; l < depth; l += 1) {
    const isLast = l === depth - 1;
    const [n, m] = [l === 0 ? inputs : width, isLast ? classes : width];
    layers.push({
      n,
      m,
      ...weightsOf(initialization, n, m, scale, random),
      activation: isLast ? null : activation,
      normalization: isLast || normalization === "none" ? null : newNormalization(normalization, m),
      residual: residual && !isLast && l > 0, // the first layer changes the size
    });
  }
  return layers;
}

// x (B, n) of the first layer -> what each layer has computed; the last one's ``out`` are the logits (B, C).
export function forward(layers, x, B, isTraining = true) {
  const seen = [];
  for (const layer of layers) {
    const z = timesTransposed(x, layer.W, B, layer.m, layer.n);
    for (let i = 0; i < z.length; i += 1) z[i] += layer.b[i % layer.m];
    const normalized = layer.normalization && normalize(layer.normalization, z, B, layer.m, isTraining);
    const y = normalized ? normalized.y : z;
    const a = layer.activation ? y.map(ACTIVATIONS[layer.activation].phi) : y;
    const out = layer.residual ? a.map((value, i) => value + x[i]) : a;
    seen.push({ x, z, normalized, y, a, out });
    x = out;
  }
  return seen;
}

// Softmax and cross-entropy of logits (B, C) and labels (B): the mean loss, and dL/dlogits = (softmax - one-hot) / B.
export function crossEntropy(logits, labels, B, C) {
  const gradient = new Float64Array(B * C);
  let loss = 0;
  for (let i = 0; i < B; i += 1) {
    const row = logits.subarray(i * C, (i + 1) * C);
    const largest = row.reduce((one, other) => Math.max(one, other)); // taken off, so that no exponential overflows
    let total = 0;
    for (const value of row) total += Math.exp(value - largest);
    loss += (largest + Math.log(total) - row[labels[i]]) / B;
    for (let c = 0; c < C; c += 1) gradient[i * C + c] = (Math.exp(row[c] - largest) / total - (c === labels[i] ? 1 : 0)) / B;
  }
  return { loss, gradient };
}

// dL/dlogits -> for each layer {delta, dW, db} and, where it is normalized, {dgain, dshift}. From the last to the first:
//   dL/dy = dL/da * phi'(y),   delta = dL/dz,   dW = deltaᵀ x,   db = the sum of delta over the batch,
//   dL/dx = delta W, plus dL/dout itself where the layer is residual: the way on which nothing is lost.
export function backward(layers, seen, gradient, B) {
  const found = new Array(layers.length);
  let dout = gradient;
  for (let l = layers.length - 1; l >= 0; l -= 1) {
    const [layer, { x, y, a, normalized }] = [layers[l], seen[l]];
    let delta = dout;
    if (layer.activation) {
      const { slope } = ACTIVATIONS[layer.activation];
      delta = dout.map((value, i) => value * slope(y[i], a[i]));
    }
    const own = layer.normalization && normalizeBackward(layer.normalization, normalized, delta, B, layer.m);
    if (own) delta = own.dz;
    const db = new Float64Array(layer.m);
    for (let i = 0; i < delta.length; i += 1) db[i % layer.m] += delta[i];
    const dW = timesTransposed(transposed(delta, B, layer.m), transposed(x, B, layer.n), layer.m, layer.n, B);
    found[l] = { delta, dW, db, dgain: own?.dgain, dshift: own?.dshift };
    if (l > 0) {
      const dx = timesTransposed(delta, transposed(layer.W, layer.m, layer.n), B, layer.n, layer.m);
      dout = layer.residual ? dx.map((value, i) => value + dout[i]) : dx;
    }
  }
  return found;
}

// Every array that is trained, with its gradient.
export function parameters(layers, gradients) {
  return layers.flatMap((layer, l) => {
    const own = layer.normalization;
    const { dW, db, dgain, dshift } = gradients[l];
    const pairs = [[layer.W, dW], [layer.b, db]];
    return own ? [...pairs, [own.gain, dgain], [own.shift, dshift]] : pairs;
  });
}
