// One step of each optimizer on an array w with its gradient g; ``own`` is what it remembers of that array.
// Each is what torch.optim does with its default options.

export const OPTIMIZERS = {
  sgd: (w, g, rate) => {
    for (let i = 0; i < w.length; i += 1) w[i] -= rate * g[i];
  },
  momentum: (w, g, rate, own) => {
    own.velocity ??= new Float64Array(w.length);
    for (let i = 0; i < w.length; i += 1) {
      own.velocity[i] = 0.9 * own.velocity[i] + g[i];
      w[i] -= rate * own.velocity[i];
    }
  },
  rmsprop: (w, g, rate, own) => {
    own.square ??= new Float64Array(w.length);
    for (let i = 0; i < w.length; i += 1) {
      own.square[i] = 0.99 * own.square[i] + 0.01 * g[i] * g[i];
      w[i] -= (rate * g[i]) / (Math.sqrt(own.square[i]) + 1e-8);
    }
  },
  // Kingma and Ba 2015: m_hat and v_hat are free of the bias towards their start at 0.
  adam: (w, g, rate, own) => {
    own.m ??= new Float64Array(w.length);
    own.v ??= new Float64Array(w.length);
    own.t = (own.t ?? 0) + 1;
    const [mBias, vBias] = [1 - 0.9 ** own.t, 1 - 0.999 ** own.t];
    for (let i = 0; i < w.length; i += 1) {
      own.m[i] = 0.9 * own.m[i] + 0.1 * g[i];
      own.v[i] = 0.999 * own.v[i] + 0.001 * g[i] * g[i];
      w[i] -= (rate * (own.m[i] / mBias)) / (Math.sqrt(own.v[i] / vBias) + 1e-8);
    }
  },
};
