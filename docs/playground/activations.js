// Activations: each phi(z) with its derivative, which takes z and phi(z) so that nothing is computed twice.

const LEAK = 0.01;
const [ALPHA, LAMBDA] = [1.6732632423543772, 1.0507009873554805]; // Klambauer et al. 2017

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const density = (z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI); // of N(0, 1)

// How much of N(0, 1) is below z: 1/2 + density(z) (z + z^3/3 + z^5/15 + ...) (Abramowitz and Stegun 26.2.11).
function below(z) {
  if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
  let [term, sum] = [z, z];
  for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) {
    term *= (z * z) / n;
    sum += term;
  }
  return 0.5 + density(z) * sum;
}

export const ACTIVATIONS = {
  sigmoid: { phi: sigmoid, slope: (z, a) => a * (1 - a) }, // at most 1/4, where z is 0
  tanh: { phi: Math.tanh, slope: (z, a) => 1 - a * a }, // at most 1
  relu: { phi: (z) => (z > 0 ? z : 0), slope: (z) => (z > 0 ? 1 : 0) },
  leaky_relu: { phi: (z) => (z > 0 ? z : LEAK * z), slope: (z) => (z > 0 ? 1 : LEAK) },
  gelu: { phi: (z) => z * below(z), slope: (z, a) => (z === 0 ? 0.5 : a / z) + z * density(z) },
  selu: {
    phi: (z) => (z > 0 ? LAMBDA * z : LAMBDA * ALPHA * Math.expm1(z)),
    slope: (z, a) => (z > 0 ? LAMBDA : a + LAMBDA * ALPHA),
  },
  silu: {
    phi: (z) => z * sigmoid(z),
    slope: (z, a) => {
      const s = sigmoid(z);
      return s + a * (1 - s);
    },
  },
  identity: { phi: (z) => z, slope: () => 1 },
};

// Those that let all that is positive pass; He's initialization is for them.
export const IS_RECTIFIER = new Set(["relu", "leaky_relu", "gelu", "silu"]);
