// Marks what does not fit a phone: tables of sentences, with the name of its column in each cell, and wide pictures.
// There site.css shows the rows of such a table one under the other, and lets such a picture be scrolled.
const [LONG, WIDE] = [45, 900]; // characters in a cell, pixels

addEventListener("load", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const columns = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    const cells = [...table.querySelectorAll("tbody td")];
    if (columns.length < 3 || !cells.some((cell) => cell.textContent.length > LONG)) continue;
    table.classList.add("sentences");
    for (const cell of cells) cell.dataset.column = columns[cell.cellIndex];
  }
  for (const image of document.querySelectorAll("p > img")) {
    if (image.naturalWidth > WIDE) image.parentElement.classList.add("wide");
  }
});
