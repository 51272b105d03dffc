// Marks tables of sentences, with the name of its column in each cell: on a phone site.css shows their rows one under the other.
const LONG = 45; // characters in a cell

addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const columns = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    const cells = [...table.querySelectorAll("tbody td")];
    if (columns.length < 3 || !cells.some((cell) => cell.textContent.length > LONG)) continue;
    table.classList.add("sentences");
    for (const cell of cells) cell.dataset.column = columns[cell.cellIndex];
  }
});
