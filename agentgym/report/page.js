"use strict";
const pairs = [...document.querySelectorAll("details.pair")];
const filter = document.getElementById("filter");
const fold = document.getElementById("fold");
if (filter) {
  filter.addEventListener("change", () => {
    for (const pair of pairs) pair.hidden = filter.value !== "" && pair.dataset.change !== filter.value;
  });
}
if (fold) {
  fold.addEventListener("click", () => {
    const open = pairs.some((pair) => !pair.hidden && !pair.open);
    for (const pair of pairs) pair.open = open;
    fold.textContent = open ? "Fold all" : "Unfold all";
  });
}
