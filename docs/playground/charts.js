// The charts by layer, and the loss: drawings of SVG from numbers, anew at each call.

const SVG = "http://www.w3.org/2000/svg";
const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const LEFT = 46; // room for the numbers of an axis; the charts by layer share it, so that layers stand below each other

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

export function power(exponent) {
  return `10${String(exponent).replace(/./g, (sign) => RAISED[sign])}`;
}

function text(x, y, words, anchor = "middle", more = {}) {
  return svg("text", { x, y, "text-anchor": anchor, ...more }, words);
}

function line(points) {
  let [drawn, isOpen] = ["", false];
  for (const [x, y] of points) {
    if (Number.isFinite(y)) drawn += `${isOpen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    isOpen = Number.isFinite(y);
  }
  return drawn;
}

function drawing(box, width, height, name, children) {
  box.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": name }, children));
}

// The place of layer l of L.
function places(L, width) {
  const [start, end] = [LEFT + 14, width - 16];
  return (l) => start + ((end - start) * l) / (L - 1);
}

function layerAxis(x, L, width, y) {
  const stride = Math.max(1, Math.ceil(L / Math.max(2, Math.floor((width - LEFT) / 38))));
  const shown = Array.from({ length: L }, (_, l) => l).filter((l) => l === L - 1 || (l % stride === 0 && L - 1 - l >= stride * 0.7));
  return shown.map((l) => text(x(l), y, l + 1));
}

const log = (value) => (value > 0 ? Math.log10(value) : NaN);

// Curves of |delta| by layer: [{kind: curve, theory or before, values}]. What is exactly 0 is marked on the axis.
// ``decades`` keeps its range while a network trains, so that the axis holds still, and is widened here where needed.
export function drawDeltas(box, curves, L, decades) {
  const [width, height] = [box.clientWidth, 270];
  const [top, bottom] = [8, height - 36];
  for (const { values } of curves) {
    const known = values.map(log).filter(Number.isFinite);
    if (!known.length) continue;
    decades.low = Math.min(decades.low, Math.floor(Math.min(...known)));
    decades.high = Math.max(decades.high, Math.ceil(Math.max(...known)));
  }
  const [low, high] = decades.low < decades.high ? [decades.low, decades.high] : [-1, 0];
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const stride = Math.max(1, Math.ceil((high - low) / 6));
  const ticks = [];
  for (let tick = Math.ceil(low / stride) * stride; tick <= high; tick += stride) ticks.push(tick);
  drawing(box, width, height, "norm of delta by layer", [
    ticks.map((tick) => [svg("line", { class: "grid", x1: LEFT, x2: width - 6, y1: y(tick), y2: y(tick) }), text(LEFT - 7, y(tick) + 4, power(tick), "end")]),
    svg("line", { class: "frame", x1: LEFT, x2: width - 6, y1: bottom, y2: bottom }),
    curves.map(({ kind, values }) => {
      const x = places(values.length, width);
      const points = values.map((value, l) => [x(l), y(log(value))]);
      if (kind !== "curve") return svg("path", { class: kind, d: line(points) });
      const known = points.filter(([, place]) => Number.isFinite(place));
      const zeros = values.map((value, l) => (value === 0 ? text(x(l), bottom - 2, "▽", "middle", { class: "zero" }) : null));
      const dots = svg("g", { class: "dots" }, known.map(([cx, cy]) => svg("circle", { cx, cy, r: 2.6 })));
      return [svg("path", { class: kind, d: line(points) }), dots, zeros];
    }),
    layerAxis(places(L, width), L, width, bottom + 15),
    text(LEFT, height - 4, "input", "start", { class: "title" }),
    text((LEFT + width) / 2, height - 4, "← the gradient runs this way", "middle", { class: "title" }),
    text(width - 6, height - 4, "loss", "end", { class: "title" }),
  ]);
}

// How a layer's values are spread, from low to high: shares of ``bins`` equal parts.
export function histogram(values, low, high, bins) {
  const shares = new Float64Array(bins);
  for (const value of values) {
    const bin = Math.floor(((value - low) / (high - low)) * bins);
    if (bin >= 0) shares[Math.min(bin, bins - 1)] += 1 / values.length;
  }
  return shares;
}

// A violin for each layer's values; the output layer's are its logits. All share the axis from the least to the largest.
export function drawHistograms(box, layers) {
  const [width, height, bins] = [box.clientWidth, 150, 48];
  const [top, bottom] = [6, height - 8];
  const all = layers.flatMap((values) => [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))]).filter(Number.isFinite);
  let [low, high] = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const x = places(layers.length, width);
  const half = ((width - LEFT - 30) / (layers.length - 1)) * 0.42;
  const ticks = [low, ...(low < 0 && high > 0 ? [0] : []), high].filter((tick, k, some) => !k || Math.abs(y(tick) - y(some[k - 1])) > 12);
  drawing(box, width, height, "histogram of activations by layer", [
    ticks.map((tick) => [svg("line", { class: "grid", x1: LEFT, x2: width - 6, y1: y(tick), y2: y(tick) }), text(LEFT - 7, y(tick) + 4, Number(tick.toPrecision(Math.abs(tick) < 1e9 ? 2 : 1)), "end")]),
    layers.map((values, l) => {
      const shares = histogram(values, low, high, bins);
      const most = shares.reduce((a, b) => Math.max(a, b));
      const edge = (side) => [...shares].flatMap((share, bin) => {
        const at = x(l) + side * Math.min(half, 26) * Math.sqrt(share / most);
        return [[at, y(low + ((high - low) * bin) / bins)], [at, y(low + ((high - low) * (bin + 1)) / bins)]];
      });
      return svg("path", { class: "violin", d: `${line([...edge(-1), ...edge(1).reverse()])}Z` });
    }),
  ]);
}

// Losses by step, thin, with their running mean; the dashed line is a constant prediction's.
export function drawLoss(box, losses, constant) {
  const [width, height] = [box.clientWidth, 292];
  const [top, bottom, left] = [10, height - 36, 38];
  const known = losses.filter(Number.isFinite);
  const high = Math.max(constant, Math.min(known.reduce((a, b) => Math.max(a, b), 0), 3 * constant)) * 1.08;
  const span = Math.max(losses.length - 1, 50);
  const x = (step) => left + ((width - 10 - left) * step) / span;
  const y = (value) => bottom - (Math.min(value, high) / high) * (bottom - top);
  const every = Math.max(1, Math.ceil(losses.length / 600));
  let mean = NaN;
  const smooth = losses.map((value) => (mean = Number.isFinite(mean) ? 0.93 * mean + 0.07 * value : value));
  const thin = (values) => values.flatMap((value, step) => (step % every ? [] : [[x(step), y(value)]]));
  const stride = high > 2 ? 1 : high > 0.9 ? 0.5 : 0.2;
  const ticks = Array.from({ length: Math.floor(high / stride) + 1 }, (_, k) => k * stride);
  drawing(box, width, height, "loss by step", [
    ticks.map((tick) => [svg("line", { class: "grid", x1: left, x2: width - 6, y1: y(tick), y2: y(tick) }), text(left - 7, y(tick) + 4, tick.toFixed(1), "end")]),
    svg("line", { class: "constant", x1: left, x2: width - 6, y1: y(constant), y2: y(constant) }),
    text(width - 8, y(constant) - 5, "a constant prediction", "end"),
    svg("line", { class: "frame", x1: left, x2: width - 6, y1: bottom, y2: bottom }),
    svg("path", { class: "faint", d: line(thin(losses)) }),
    svg("path", { class: "curve", d: line(thin(smooth)) }),
    [0, 0.5, 1].map((share) => text(x(span * share), bottom + 15, Math.round(span * share).toLocaleString("en"), share === 1 ? "end" : "middle")),
    text((left + width) / 2, height - 4, "step", "middle", { class: "title" }),
  ]);
}
