"use strict";
// Headers of sortable tables become buttons. What has no value stays at the end; equal rows keep their order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const columns = [...table.tHead.rows[0].cells];
  const value = (row, index) => {
    const cell = row.cells[index];
    const text = cell.dataset.value;
    return text === undefined ? cell.textContent.trim() : text === "" ? null : Number(text);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  columns.forEach((header, index) => {
    if (header.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const other of columns) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((first, second) => {
        const [a, b] = [value(first, index), value(second, index)];
        if (a === null || b === null) return (a === null) - (b === null);
        return up ? compare(a, b) : compare(b, a);
      });
      body.append(...rows);
      const name = button.textContent.trim().replace(/\s+/g, " ");
      document.getElementById("status").textContent = `Sorted by ${name}, ${up ? "ascending" : "descending"}.`;
    });
  });
}
