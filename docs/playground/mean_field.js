// What mean-field theory expects of |delta| by layer at the start (Schoenholz et al. 2017), as unvanish.gradients.theory.
//
// Weights are N(0, sigma_w2 / n) and biases N(0, sigma_b2), so that z of a wide layer is N(0, q):
//   q of the next layer = sigma_b2 + sigma_w2 E[phi(sqrt(q) u)^2],   u from N(0, 1)
//   |delta_l|^2 = |delta_(l+1)|^2 sigma_w2_(l+1) E[phi'(sqrt(q_l) u)^2]
import { ACTIVATIONS } from "./activations.js";

// E[f(u)^2] over N(0, 1) by Simpson's rule on both sides of 0 apart: there the rectifiers have their kink.
function averageSquare(f) {
  const [reach, steps] = [9, 1200];
  const h = reach / steps;
  let sum = 0;
  for (const side of [-1, 1]) {
    for (let k = 0; k <= steps; k += 1) {
      const u = side * (k === 0 ? 1e-12 : k * h);
      const weight = k === 0 || k === steps ? 1 : k % 2 ? 4 : 2;
      sum += weight * f(u) ** 2 * Math.exp((-u * u) / 2);
    }
  }
  return (sum * h) / 3 / Math.sqrt(2 * Math.PI);
}

const meanSquare = (values) => values.reduce((sum, value) => sum + value * value, 0) / values.length;

// The factors |delta_l| / |delta_(l+1)| for l = 1 ... L - 1, at the variances that this batch x (B, n) has.
export function expectedFactors(layers, x) {
  const variances = layers.map(({ W, n, b }) => [n * meanSquare(W), meanSquare(b)]);
  const { phi, slope } = ACTIVATIONS[layers[0].activation];
  let q = variances[0][1] + variances[0][0] * meanSquare(x);
  return variances.slice(1).map(([weight, bias]) => {
    const sigma = Math.sqrt(Math.max(q, 1e-30));
    const factor = Math.sqrt(weight * averageSquare((u) => slope(sigma * u, phi(sigma * u))));
    q = bias + weight * averageSquare((u) => phi(sigma * u));
    return factor;
  });
}

// The factor of |delta|^2 a layer of linear, batch normalization and ReLU (Yang et al. 2019, Theorem 8), B samples.
export function batchNormExplosion(B) {
  const c = -1 / (B - 1); // the correlation of two samples once the mean is taken out
  const slope = (Math.PI - Math.acos(c)) / Math.PI;
  const kernel = Math.sqrt(1 - c * c) / Math.PI + slope * c;
  return ((slope + B - 1) / (1 - kernel) - 1) / (B - 3);
}

// |delta| by layer from what is measured at the last layer that theory speaks of; NaN where it says nothing.
export function expected(layers, x, B, deltas) {
  const values = new Array(layers.length).fill(NaN);
  if (layers.length < 2 || layers.some((layer) => layer.residual)) return values;
  const kind = layers[0].normalization?.kind;
  if (!kind) {
    const factors = expectedFactors(layers, x);
    values[layers.length - 1] = deltas[layers.length - 1];
    for (let l = layers.length - 2; l >= 0; l -= 1) values[l] = values[l + 1] * factors[l];
  } else if (kind === "batch" && layers[0].activation === "relu" && B >= 4 && layers.length >= 4) {
    const factor = Math.sqrt(batchNormExplosion(B)); // from one normalized layer to another
    values[layers.length - 2] = deltas[layers.length - 2];
    for (let l = layers.length - 3; l > 0; l -= 1) values[l] = values[l + 1] * factor;
  }
  return values;
}
