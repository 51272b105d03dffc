// Colours that the colour-blind tell apart as well: for lines those of the style, as many as it has of them; viridis for
// maps.
const LINES = 7;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2"];
const VIRIDIS = [
  "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e", "#21918c",
  "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219", "#fde725",
].map(rgb);

// What has no place on a scale: each of a colour that is none of viridis.
export const SPECIAL = { zero: [255, 255, 255], nan: [255, 0, 255], inf: [255, 0, 255], above: [213, 94, 0] };

export function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

// The colour at a share of the scale, from 0 to 1, as three bytes.
export function shade(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const index = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[index].map((low, part) => Math.round(low + (VIRIDIS[index + 1][part] - low) * (place - index)));
}

// How the line of the n-th group of runs looks: after seven colours the dashes change.
export function lineLook(index) {
  const turn = Math.floor(index / LINES) % DASHES.length;
  return { colour: `var(--line-${index % LINES})`, dash: DASHES[turn] };
}

// Which of the style's colours a verdict has; a loss that falls on is no illness.
export function tone(verdict) {
  if (verdict === "healthy") return "healthy";
  if (!verdict || verdict === "unknown" || verdict === "not done yet") return "unknown";
  return verdict.startsWith("exploding") || verdict === "nan" ? "exploding" : "ill";
}
