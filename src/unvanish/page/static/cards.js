// What was found in each run: the numbers that show it, why, and what to do.
import { tone } from "./colours.js";
import { chip, sorted } from "./runs.js";
import { h, term } from "./dom.js";

// A recipe's keys as they would be written there.
export function recipeLine(changes) {
  const value = (one) => (one === null ? "null" : typeof one === "object" ? JSON.stringify(one) : String(one));
  return Object.entries(changes).map(([name, one]) => `${name}: ${value(one)}`).join(", ");
}

function remedy(words, changes) {
  const line = changes && Object.keys(changes).length ? recipeLine(changes) : "";
  return h("li", {}, words, line ? h("code", { class: "term", tabindex: 0, "data-term": "recipe line" }, line) : null);
}

function card(finding) {
  const since = finding.step ? `since step ${finding.step.toLocaleString("en")}` : "";
  return h(
    "div",
    { class: "finding", "data-finding": finding.name },
    h("h3", {}, term(finding.name), finding.where ? ` in ${finding.where}` : "", since ? h("small", {}, since) : null),
    h("p", {}, finding.evidence, finding.evidence.endsWith(".") ? "" : "."),
    h("p", { class: "quiet" }, h("b", {}, "Why: "), finding.cause),
    h("b", {}, "Try"),
    h("ol", {}, finding.remedies.map((words, index) => remedy(words, finding.changes?.[index]))),
    finding.about.length ? h("p", { class: "about" }, `about ${finding.about.join(", ").replaceAll("_", " ")}`) : null,
  );
}

// A card for each run that is shown and has findings; the others in a line.
export function cards(state) {
  const shown = state.runs.filter((run) => state.chosen.has(run.name));
  const ill = shown.filter((run) => run.findings?.length);
  const well = shown.filter((run) => !run.findings?.length);
  if (!shown.length) return null;
  const named = (run) => [h("span", { class: "swatch", style: `background:${state.looks.get(run.name).colour}` }), run.name, " "];
  return h(
    "section",
    { class: "panel findings" },
    h("header", {}, h("h2", {}, term("Findings", "finding"))),
    h(
      "div",
      { class: "cards" },
      ill.map((run) => h("article", { class: `card ${tone(run.verdict)}`, "data-run": run.name }, h("h2", {}, named(run), chip(run)), h("div", { class: "all" }, run.findings.map(card)), notes(run))),
    ),
    well.map((run) => h("p", { class: "well", "data-run": run.name }, named(run), chip(run), " ", run.evidence, notes(run))),
  );
}

// In words, above all: which of the runs that are shown are ill, and where.
export function headline(state) {
  const shown = state.runs.filter((run) => state.chosen.has(run.name));
  const ill = sorted(shown, "verdict").filter((run) => run.findings?.length);
  if (!shown.length) return null;
  const lines = ill.slice(0, 3).map((run) => h("p", {}, h("b", {}, run.name), " ", chip(run), ` ${run.findings[0].evidence}`));
  const unknown = shown.filter((run) => run.verdict === "unknown").length;
  const healthy = shown.length - ill.length - unknown;
  const more = ill.length - 3;
  const rest = [more > 0 ? `${more} more ${more === 1 ? "has" : "have"} findings, below` : "", healthy ? `${healthy} of ${shown.length} healthy` : ""];
  const others = rest.filter(Boolean).join("; ");
  if (ill.length === 1 && others) lines[0].append(h("span", { class: "quiet" }, ` · ${others}`));
  else if (ill.length && others) lines.push(h("p", { class: "quiet" }, others));
  const well = unknown ? `Nothing was found; of ${unknown} of ${shown.length} too little is known.` : "The gradient reaches every layer that was looked at.";
  return h("div", { class: `headline ${ill.length ? tone(ill[0].verdict) : "healthy"}`, role: "status" }, lines.length ? lines : h("p", {}, well));
}

function notes(run) {
  return run.not_measured?.length ? h("p", { class: "about" }, `not measured: ${run.not_measured.join("; ")}`) : null;
}
