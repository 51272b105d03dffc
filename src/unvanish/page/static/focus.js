// Points at a run: where the pointer is on its name, the lines and maps of the others fade.
import { groupOf } from "./model.js";

export function focusing(root) {
  let group = "";
  root.addEventListener("mouseover", (event) => {
    const name = event.target.closest?.(".run, .key [data-group]")?.dataset;
    const next = name ? groupOf(name.run ?? name.group) : "";
    if (next === group) return;
    group = next;
    const drawn = [...root.querySelectorAll(".map, .chart .curve, .chart .theory")];
    const groups = drawn.map((element) => groupOf(element.dataset.run ?? element.dataset.group));
    drawn.forEach((element, index) => element.classList.toggle("faded", groups.includes(group) && groups[index] !== group));
  });
}
