// What the network answers: the plane in the colours of its classes with the data on it, or held-out digits.
import { classes } from "./training.js";

const GRID = 40; // cells a side
const REACH = 2.4; // the plane from -REACH to REACH
const COLOURS = [[0, 114, 178], [230, 159, 0]]; // Okabe and Ito's blue and orange
const CHUNK = 160; // samples that one frame computes, so that the page stays quick

// Computes its answers over several frames, and draws when they are whole. ``done`` is told the held-out accuracy.
export class Surface {
  constructor(canvas, done) {
    Object.assign(this, { canvas, done });
    this.restart(null);
  }

  restart(training) {
    const isPlane = training?.problem.inputs === 2;
    Object.assign(this, { training, at: 0, isPlane });
    if (!training) return;
    const held = training.problem.heldOut;
    this.x = isPlane ? Float64Array.from([...held.x, ...plane()]) : held.x;
    this.samples = this.x.length / training.problem.inputs;
    this.logits = new Float64Array(this.samples * training.problem.classes);
  }

  // The next part; begins anew after the last.
  advance() {
    const { training, x, samples } = this;
    const { inputs, classes: C } = training.problem;
    const end = Math.min(this.at + CHUNK, samples);
    this.logits.set(training.predict(x.subarray(this.at * inputs, end * inputs), end - this.at), this.at * C);
    this.at = end % samples;
    if (this.at === 0) this.draw();
  }

  whole() {
    do this.advance();
    while (this.at !== 0);
  }

  draw() {
    const { training, canvas, logits } = this;
    const { heldOut, classes: C, train } = training.problem;
    const found = classes(logits.subarray(0, heldOut.y.length * C), C);
    const right = found.map((answer, k) => answer === heldOut.y[k]);
    canvas.width = canvas.height = Math.max(1, canvas.clientWidth) * (window.devicePixelRatio || 1);
    const pen = canvas.getContext("2d");
    if (this.isPlane) drawPlane(pen, canvas.width, logits.subarray(heldOut.y.length * C), train);
    else drawDigits(pen, canvas.width, heldOut, found, right, getComputedStyle(canvas));
    this.done(right.filter(Boolean).length / right.length);
  }
}

function plane() {
  const points = [];
  for (let row = 0; row < GRID; row += 1) {
    for (let column = 0; column < GRID; column += 1) {
      points.push(((column + 0.5) / GRID - 0.5) * 2 * REACH, (0.5 - (row + 0.5) / GRID) * 2 * REACH);
    }
  }
  return points;
}

function drawPlane(pen, side, logits, train) {
  const picture = new ImageData(GRID, GRID);
  for (let cell = 0; cell < GRID * GRID; cell += 1) {
    const share = 1 / (1 + Math.exp(logits[2 * cell] - logits[2 * cell + 1])); // softmax's share of class 1
    picture.data.set([...COLOURS[share > 0.5 ? 1 : 0], 12 + 330 * Math.abs(share - 0.5)], 4 * cell); // unsure is pale
  }
  const small = new OffscreenCanvas(GRID, GRID);
  small.getContext("2d").putImageData(picture, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, side, side);
  pen.lineWidth = side / 400;
  pen.strokeStyle = "#fff";
  train.y.forEach((label, k) => {
    const [u, v] = [train.x[2 * k], train.x[2 * k + 1]].map((value) => value / (2 * REACH));
    pen.beginPath();
    pen.arc((0.5 + u) * side, (0.5 - v) * side, side / 95, 0, 2 * Math.PI);
    pen.fillStyle = `rgb(${COLOURS[label].join(" ")})`;
    pen.fill();
    pen.stroke();
  });
}

const SHOWN = 6; // digits a side

function drawDigits(pen, side, { x }, found, right, style) {
  const cell = side / SHOWN;
  const [paper, ink, ill] = ["--paper", "--ink", "--ill"].map((name) => style.getPropertyValue(name));
  pen.fillStyle = paper;
  pen.fillRect(0, 0, side, side);
  for (let k = 0; k < SHOWN * SHOWN; k += 1) {
    const [left, top] = [(k % SHOWN) * cell, Math.floor(k / SHOWN) * cell];
    pen.fillStyle = ink;
    for (let pixel = 0; pixel < 64; pixel += 1) {
      pen.globalAlpha = Math.min(Math.max((x[k * 64 + pixel] * 6.017 + 4.884) / 16, 0), 1) * 0.8;
      pen.fillRect(left + ((pixel % 8) * cell) / 11, top + (Math.floor(pixel / 8) * cell) / 11, cell / 11 + 0.5, cell / 11 + 0.5);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = right[k] ? ink : ill;
    pen.font = `${right[k] ? 400 : 700} ${cell / 4.2}px sans-serif`;
    pen.fillText(found[k], left + cell * 0.78, top + cell * 0.72);
  }
}
