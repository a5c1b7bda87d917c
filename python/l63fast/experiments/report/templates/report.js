"use strict";
const table = document.querySelector("#board");
const body = table.tBodies[0];
const rows = [...body.rows];
const status = document.querySelector("#count");

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return a.localeCompare(b);
  return x === y ? 0 : x < y ? -1 : 1;
}

table.tHead.querySelectorAll("button").forEach((button) => {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const up = head.getAttribute("aria-sort") !== "ascending";
    table.tHead.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[head.cellIndex].dataset.value;
    rows.sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
    body.append(...rows);
  });
});

const filters = [...document.querySelectorAll("#filters [data-column]")];
function filter() {
  let shown = 0;
  for (const row of rows) {
    const fits = filters.every((input) => {
      const cell = row.cells[Number(input.dataset.column)].textContent.trim();
      const asked = input.value.trim();
      if (input.tagName === "SELECT") return !asked || cell === asked;
      return cell.toLowerCase().includes(asked.toLowerCase());
    });
    row.hidden = !fits;
    shown += fits;
  }
  status.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
}
filters.forEach((input) => input.addEventListener("input", filter));
document.querySelector("#filters").addEventListener("submit", (e) => e.preventDefault());

const links = new Map(
  [...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]),
);
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(entry.target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
document.querySelectorAll("section").forEach((section) => seen.observe(section));

// A faded edge shows that a frame can be scrolled there.
const resized = new ResizeObserver((entries) => entries.forEach((e) => fade(e.target)));
function fade(frame) {
  const rest = frame.scrollWidth - frame.clientWidth - frame.scrollLeft;
  frame.classList.toggle("more-left", frame.scrollLeft > 1);
  frame.classList.toggle("more-right", rest > 1);
}
document.querySelectorAll(".scroll").forEach((frame) => {
  resized.observe(frame);
  frame.addEventListener("scroll", () => fade(frame), { passive: true });
});

window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details.figure").forEach((d) => { d.open = true; });
});
