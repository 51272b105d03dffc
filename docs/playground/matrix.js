// The one product of matrices that a network needs, and a transpose.
//
// A matrix of r rows and c columns lies row by row in a Float64Array: element (i, j) is at i * c + j.
// float64, because fifty sigmoid layers pass on less of a gradient than float32 can hold.

// A (r, k) times the transpose of B (c, k): (r, c). Each element is a row of A times a row of B, so that both are read in
// the order in which they lie. Two rows by four are done together: a number that was fetched is used more than once.
export function timesTransposed(A, B, r, c, k) {
  const out = new Float64Array(r * c);
  let i = 0;
  for (; i + 1 < r; i += 2) {
    const p = i * k;
    const q = p + k;
    let j = 0;
    for (; j + 3 < c; j += 4) {
      const s = j * k;
      let [a0, a1, a2, a3, b0, b1, b2, b3] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let t = 0; t < k; t += 1) {
        const u = A[p + t];
        const v = A[q + t];
        const w0 = B[s + t];
        const w1 = B[s + k + t];
        const w2 = B[s + 2 * k + t];
        const w3 = B[s + 3 * k + t];
        a0 += u * w0;
        a1 += u * w1;
        a2 += u * w2;
        a3 += u * w3;
        b0 += v * w0;
        b1 += v * w1;
        b2 += v * w2;
        b3 += v * w3;
      }
      const o = i * c + j;
      out[o] = a0;
      out[o + 1] = a1;
      out[o + 2] = a2;
      out[o + 3] = a3;
      out[o + c] = b0;
      out[o + c + 1] = b1;
      out[o + c + 2] = b2;
      out[o + c + 3] = b3;
    }
    for (; j < c; j += 1) {
      out[i * c + j] = dot(A, p, B, j * k, k);
      out[(i + 1) * c + j] = dot(A, q, B, j * k, k);
    }
  }
  if (i < r) for (let j = 0; j < c; j += 1) out[i * c + j] = dot(A, i * k, B, j * k, k);
  return out;
}

function dot(A, p, B, q, k) {
  let sum = 0;
  for (let t = 0; t < k; t += 1) sum += A[p + t] * B[q + t];
  return sum;
}

// A (r, c) with rows and columns exchanged: (c, r).
export function transposed(A, r, c) {
  const out = new Float64Array(r * c);
  for (let i = 0; i < r; i += 1) for (let j = 0; j < c; j += 1) out[j * r + i] = A[i * c + j];
  return out;
}

// The root of the sum of squares.
export function norm(values) {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}
