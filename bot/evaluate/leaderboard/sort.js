// Sorts a table by a column when its heading is clicked: from high to low, then from low to high. Empty cells stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, body = heading.closest("table").tBodies[0];
    const isDown = heading.getAttribute("aria-sort") !== "descending", place = heading.cellIndex;
    for (const each of heading.parentElement.children) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const key = (row) => row.cells[place].dataset.key;
    const compare = (one, other) => (isNaN(one) || isNaN(other) ? one.localeCompare(other) : one - other) * (isDown ? -1 : 1);
    const rows = [...body.rows];
    rows.sort((one, other) => (key(one) === "") - (key(other) === "") || compare(key(one), key(other)));
    body.append(...rows);
  });
}
