// Zoom and search of a flame graph. A box knows its place from its rectangle, which is kept as drawn.
"use strict";
const frames = document.getElementById("frames");
const boxes = [...frames.children].map((g) => {
  const rect = g.querySelector("rect");
  const number = (name) => Number(rect.getAttribute(name));
  return { g, rect, text: g.querySelector("text"), name: g.dataset.n, x: number("x"), y: number("y"), w: number("width") };
});
const root = boxes[0];
const byId = (id) => document.getElementById(id);
let pattern = null;

function draw(box, x, w) {
  box.rect.setAttribute("x", x);
  box.rect.setAttribute("width", Math.max(w, 0));
  box.text.setAttribute("x", x + 3);
  const fits = Math.floor((w - 4) / 6.6);
  box.text.textContent = box.name.length <= fits ? box.name : fits >= 3 ? box.name.slice(0, fits - 2) + ".." : "";
}

// Boxes under the one clicked become as wide as the picture, those over it grow with it, others go.
function zoom(to) {
  const scale = root.w / to.w;
  const away = Math.sign(root.y - to.y);
  for (const box of boxes) {
    const under = box === root || (away * (box.y - to.y) > 0 && box.x <= to.x + 0.05 && box.x + box.w >= to.x + to.w - 0.05);
    const inside = box.x >= to.x - 0.05 && box.x + box.w <= to.x + to.w + 0.05;
    box.g.style.display = under || inside ? "" : "none";
    box.g.style.opacity = under && box !== to ? 0.5 : 1;
    if (under && box !== to) draw(box, root.x, root.w);
    else if (inside) draw(box, root.x + (box.x - to.x) * scale, box.w * scale);
  }
  byId("reset").textContent = to === root ? "" : "Reset zoom";
}

// The share of all stacks with a matching frame: of nested matches the widest counts.
function search(expression) {
  pattern = expression;
  const spans = [];
  for (const box of boxes) {
    const found = expression !== null && box !== root && expression.test(box.name);
    box.g.classList.toggle("found", found);
    if (found) spans.push([box.x, box.x + box.w]);
  }
  spans.sort((a, b) => a[0] - b[0]);
  let sum = 0;
  let end = -1;
  for (const [from, to] of spans) {
    if (to > end) {
      sum += to - Math.max(from, end);
      end = to;
    }
  }
  byId("matched").textContent = expression === null ? " " : "Matched: " + ((100 * sum) / root.w).toFixed(1) + "%";
  byId("search").textContent = expression === null ? "Search" : "Reset search";
}

function ask() {
  if (pattern !== null) return search(null);
  const text = prompt("Search for a function (regular expression):", "");
  if (text) search(new RegExp(text));
}

frames.addEventListener("click", (event) => {
  const box = boxes.find((b) => b.g === event.target.closest("g[data-n]"));
  if (box) zoom(box);
});
frames.addEventListener("mouseover", (event) => {
  const g = event.target.closest("g[data-n]");
  byId("details").textContent = g ? g.querySelector("title").textContent : " ";
});
byId("reset").addEventListener("click", () => zoom(root));
byId("search").addEventListener("click", ask);
window.addEventListener("keydown", (event) => {
  if (event.key === "/" || (event.ctrlKey && event.key === "f")) {
    event.preventDefault();
    ask();
  }
});
