// Runs and their numbers: where they come from, and what is asked of them.
const LEVELS = 65531;
const KINDS = { 65532: "missing", 65533: "zero", 65534: "nan", 65535: "inf" };

// A matrix by layer and step; value and kind of a cell by its row and column.
export class Matrix {
  constructor(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    this.title = packed.title;
    this.log = packed.log;
    this.layers = packed.layers;
    this.steps = packed.steps;
    this.low = packed.low;
    this.high = packed.high;
    this.codes = new Uint16Array(bytes.buffer);
    this.rows = new Map(packed.layers.map((layer, row) => [layer, row]));
  }

  // "" for a number, else missing, zero, nan or inf.
  kind(row, column) {
    return KINDS[this.codes[row * this.steps.length + column]] ?? "";
  }

  // The number, a logarithm where the quantity is drawn as one; NaN where there is none.
  value(row, column) {
    const code = this.codes[row * this.steps.length + column];
    return code > LEVELS ? NaN : this.low + ((this.high - this.low) * code) / LEVELS;
  }

  // The column of the last step that was measured by then; the first, where there is none.
  columnAt(step) {
    let low = 0;
    let high = this.steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return Math.max(low - 1, 0);
  }

  get hasNumbers() {
    return this.codes.some((code) => code <= LEVELS);
  }
}

// Runs that a page has brought with it.
export function embedded(runs) {
  const unpack = (group) => Object.fromEntries(Object.entries(group ?? {}).map(([k, v]) => [k, new Matrix(v)]));
  const all = runs.map((run) => {
    const numbers = unpack(run.quantities);
    const titles = Object.fromEntries(Object.entries(numbers).map(([name, matrix]) => [name, matrix.title]));
    return { ...run, titles, numbers, states: unpack(run.times) };
  });
  const byName = new Map(all.map((run) => [run.name, run]));
  const gather = (names, look) =>
    new Map(names.map((name) => [name, look(byName.get(name))]).filter(([, found]) => found));
  return {
    isLive: false,
    runs: async () => all.map((run) => ({ ...run, recurrent: Object.keys(run.states) })),
    matrices: async (names, quantity) => gather(names, (run) => run.numbers[quantity]),
    times: async (names) => gather(names, (run) => run.states),
    layer: async (name, layer) => {
      const run = byName.get(name);
      const found = Object.entries(run.numbers).filter(([, matrix]) => matrix.rows.has(layer));
      return { quantities: Object.fromEntries(found), histogram: bars(run.histograms?.[layer]) };
    },
  };
}

// Runs that TensorBoard serves, from an address that ends with a slash.
export function served(address) {
  const get = async (route, parameters) => {
    const url = new URL(route, address);
    parameters.forEach(([name, value]) => url.searchParams.append(name, value));
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  const asked = (names) => names.map((name) => ["run", name]);
  const unpack = (group) => Object.fromEntries(Object.entries(group).map(([k, v]) => [k, new Matrix(v)]));
  // An address has its bounds, and so has a request.
  const inParts = async (names, load) => {
    const parts = [];
    for (let start = 0; start < names.length; start += 20) parts.push(names.slice(start, start + 20));
    return new Map((await Promise.all(parts.map(load))).flatMap((found) => Object.entries(found)));
  };
  return {
    isLive: true,
    runs: () => get("runs", []),
    matrices: async (names, quantity, points) => {
      const query = [["quantity", quantity], ["points", points]];
      const found = await inParts(names, (part) => get("matrix", [...asked(part), ...query]));
      return new Map([...found].map(([name, matrix]) => [name, new Matrix(matrix)]));
    },
    times: async (names) => {
      const found = await inParts(names, (part) => get("times", asked(part)));
      return new Map([...found].map(([name, layers]) => [name, unpack(layers)]));
    },
    layer: async (name, layer) => {
      const found = await get("layer", [["run", name], ["layer", layer]]);
      return { quantities: unpack(found.quantities), histogram: found.histogram };
    },
  };
}

// A histogram by power of two, with edges in powers of ten as TensorBoard has them.
function bars(folded) {
  if (!folded) return null;
  const edge = (index) => (folded.first + index) * Math.log10(2);
  return { step: folded.step, buckets: folded.counts.map((count, index) => [edge(index), edge(index + 1), count]) };
}

// Lowest and highest number of several matrices; of logarithms at least three apart, so that what is level looks level.
export function extent(matrices) {
  const [low, high, isLog] = bounds(matrices);
  if (!isLog && low === 0 && high === 0) return [0, 1];
  const least = isLog ? 3 : Math.max(0.2 * Math.abs(high), 1e-9);
  const more = Math.max(least - (high - low), 0) / 2;
  return [low - more, high + more];
}

// The ends of a colour scale: of logarithms at least six apart and the highest the brightest, so that what is level is
// bright, whether or not there is an ill run beside it. That of a gradient ends at 1e-18 and at 10, as in TensorBoard's
// images: one that explodes would make all others dark, and one that vanishes to 1e-40 would make 1e-15 bright.
export function shades(matrices, isGradient) {
  const [low, high, isLog] = bounds(matrices);
  const top = isGradient ? Math.min(high, 1) : high;
  const bottom = isGradient ? Math.max(low, -18) : low;
  return [Math.min(bottom, top - (isLog ? 6 : 1e-9)), top];
}

function bounds(matrices) {
  const known = [...matrices].filter((matrix) => matrix.hasNumbers);
  if (!known.length) return [0, 1, false];
  return [Math.min(...known.map((matrix) => matrix.low)), Math.max(...known.map((matrix) => matrix.high)), known[0].log];
}

// All steps at which any of them was measured.
export function stepsOf(matrices) {
  return [...new Set([...matrices].flatMap((matrix) => matrix.steps))].sort((a, b) => a - b);
}

const SEED = /[/_-]?seed[_-]?\d+/i;

// What runs that differ by their seed alone have in common.
export function groupOf(name) {
  return name.replace(SEED, "") || name;
}

// By name what each of some runs is called where there is little room: without what all of them have in common,
// and without its seed, where no other seed is there.
export function shortNames(names) {
  const groups = names.map(groupOf);
  const parts = groups.map((group) => group.split(","));
  const isShared = (part) => new Set(groups).size > 1 && parts.every((others) => others.slice(1).includes(part));
  return new Map(
    names.map((name, index) => {
      const words = parts[index].filter((part, place) => !place || !isShared(part)).join(",");
      const isAlone = groups.filter((group) => group === groups[index]).length === 1;
      return [name, isAlone ? words : `${words}${name.match(SEED)?.[0] ?? ""}`];
    }),
  );
}

// A number as a person would write it: 3.3e-17, 0.136, 1,240.
export function written(value) {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return value.toExponential(1);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

// A cell in words.
export function cellText(matrix, row, column) {
  const kind = matrix.kind(row, column);
  if (kind) return { missing: "not measured", zero: "exactly 0", nan: "NaN", inf: "infinite" }[kind];
  const value = matrix.value(row, column);
  return matrix.log ? written(10 ** value) : written(value);
}

// A cell for a table that programs read: a number with as many digits as are kept of it; empty where there is none.
export function cellNumber(matrix, row, column) {
  const kind = matrix.kind(row, column);
  if (kind) return { missing: "", zero: "0", nan: "nan", inf: "inf" }[kind];
  const value = matrix.value(row, column);
  return String(Number((matrix.log ? 10 ** value : value).toPrecision(4)));
}

export function medianOf(values) {
  const known = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!known.length) return NaN;
  const half = known.length >> 1;
  return known.length % 2 ? known[half] : (known[half - 1] + known[half]) / 2;
}

export function naturally(a, b) {
  return a.localeCompare(b, "en", { numeric: true });
}
