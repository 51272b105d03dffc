// Batch and layer normalization, forward and backward: one formula over two kinds of groups.
//
// z (B, m) is cut into groups: for batch normalization (Ioffe and Szegedy 2015) the B values of a unit, for layer
// normalization (Ba et al. 2016) the m values of a sample. In each of them
//   zhat = (z - mean) / sqrt(variance + EPSILON),   y = gain * zhat + shift,   gain and shift one number a unit.

const EPSILON = 1e-5;
const MOMENTUM = 0.1; // of the running statistics, with which batch normalization predicts

// How groups lie in z: how many there are, the size of one, the way from one to the next, and from element to element.
function groupsOf(kind, B, m) {
  return kind === "batch" ? [m, B, 1, m] : [B, m, m, 1];
}

// What a normalization has of its own, for m units.
export function newNormalization(kind, m) {
  return { kind, gain: new Float64Array(m).fill(1), shift: new Float64Array(m), mean: new Float64Array(m), variance: new Float64Array(m).fill(1) };
}

// z (B, m) -> {y, zhat (B, m), scale: 1 / sqrt(variance + EPSILON) of each group}.
export function normalize(own, z, B, m, isTraining) {
  const [groups, size, next, stride] = groupsOf(own.kind, B, m);
  const [zhat, y, scale] = [new Float64Array(B * m), new Float64Array(B * m), new Float64Array(groups)];
  for (let g = 0; g < groups; g += 1) {
    let [mean, variance] = [0, 0];
    if (own.kind === "batch" && !isTraining) {
      [mean, variance] = [own.mean[g], own.variance[g]];
    } else {
      for (let k = 0; k < size; k += 1) mean += z[g * next + k * stride] / size;
      for (let k = 0; k < size; k += 1) variance += (z[g * next + k * stride] - mean) ** 2 / size;
    }
    if (own.kind === "batch" && isTraining) {
      own.mean[g] += MOMENTUM * (mean - own.mean[g]);
      own.variance[g] += MOMENTUM * ((variance * size) / (size - 1) - own.variance[g]);
    }
    scale[g] = 1 / Math.sqrt(variance + EPSILON);
    for (let k = 0; k < size; k += 1) {
      const at = g * next + k * stride;
      zhat[at] = (z[at] - mean) * scale[g];
      y[at] = own.gain[at % m] * zhat[at] + own.shift[at % m];
    }
  }
  return { y, zhat, scale };
}

// dL/dy (B, m) -> {dz (B, m), dgain (m), dshift (m)}. mean and variance depend on every z of the group, hence two terms:
//   dL/dz = scale * (d - mean(d) - zhat * mean(d * zhat)),   where d = dL/dzhat = gain * dL/dy.
export function normalizeBackward(own, { zhat, scale }, dy, B, m) {
  const [groups, size, next, stride] = groupsOf(own.kind, B, m);
  const [dz, dgain, dshift] = [new Float64Array(B * m), new Float64Array(m), new Float64Array(m)];
  for (let g = 0; g < groups; g += 1) {
    let [mean, product] = [0, 0];
    for (let k = 0; k < size; k += 1) {
      const at = g * next + k * stride;
      const d = own.gain[at % m] * dy[at];
      mean += d / size;
      product += (d * zhat[at]) / size;
      dgain[at % m] += dy[at] * zhat[at];
      dshift[at % m] += dy[at];
    }
    for (let k = 0; k < size; k += 1) {
      const at = g * next + k * stride;
      dz[at] = scale[g] * (own.gain[at % m] * dy[at] - mean - zhat[at] * product);
    }
  }
  return { dz, dgain, dshift };
}
