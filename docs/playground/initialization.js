// Initial weights by name: each sets the variance of a weight from fan_in = n and fan_out = m.
//
// default is torch's: W and b uniform within 1 / sqrt(n), so that Var W = 1 / (3 n). In all others biases are 0.

export const INITIALIZATIONS = {
  default: (n) => 1 / (3 * n),
  xavier_normal: (n, m) => 2 / (n + m), // Glorot and Bengio 2010
  he_normal: (n) => 2 / n, // He et al. 2015: a ReLU silences half
  lecun_normal: (n) => 1 / n, // LeCun et al. 1998; what SELU supposes
};

// W (m, n) and b (m); ``scale`` multiplies the weights' standard deviation.
export function weightsOf(name, n, m, scale, random) {
  const deviation = scale * Math.sqrt(INITIALIZATIONS[name](n, m));
  const isUniform = name === "default";
  const edge = 1 / Math.sqrt(n);
  const draw = isUniform ? () => scale * edge * (2 * random() - 1) : () => deviation * normal(random);
  const W = Float64Array.from({ length: m * n }, draw);
  const b = isUniform ? Float64Array.from({ length: m }, () => edge * (2 * random() - 1)) : new Float64Array(m);
  return { W, b };
}

// Numbers from [0, 1) that a seed fixes: mulberry32, of 32 bits, which is enough for a page.
export function randomOf(seed) {
  let state = (seed * 0x9e3779b1) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// One number from N(0, 1) (Box and Muller 1958).
export function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
