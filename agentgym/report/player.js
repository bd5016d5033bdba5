"use strict";
const { reels, episodes, pictures } = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let shown = [], place = 0, turn = 0, timer = null;

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

function shape(name, attributes, kind) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.setAttribute("class", kind);
  return made;
}

// Every line is drawn twice, light under dark, so that it is seen on any page.
function draw(svg, name, attributes, kind) {
  svg.append(shape(name, attributes, `halo ${kind}`), shape(name, attributes, kind));
}

function drawBox(svg, [x1, y1, x2, y2], kind) {
  draw(svg, "rect", { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) }, kind);
}

function drawPoint(svg, [x, y], unit) {
  draw(svg, "circle", { cx: x, cy: y, r: 9 * unit }, "mark");
  draw(svg, "path", { d: `M${x - 15 * unit} ${y}h${10 * unit}m${10 * unit} 0h${10 * unit}M${x} ${y - 15 * unit}v${10 * unit}m0 ${10 * unit}v${10 * unit}` }, "mark");
  svg.append(shape("circle", { cx: x, cy: y, r: 2 * unit }, "mark dot"));
}

function drawDrag(svg, [x1, y1, x2, y2], unit) {
  const angle = Math.atan2(y2 - y1, x2 - x1), head = 11 * unit;
  const wing = (turned) => `L${x2 - head * Math.cos(angle + turned)} ${y2 - head * Math.sin(angle + turned)}`;
  draw(svg, "path", { d: `M${x1} ${y1}L${x2} ${y2}${wing(0.5)}M${x2} ${y2}${wing(-0.5)}` }, "mark");
  draw(svg, "circle", { cx: x1, cy: y1, r: 5 * unit }, "mark");
}

function stage(picture, mark, target) {
  const found = pictures[picture], room = at("stage");
  room.replaceChildren();
  room.hidden = !found;
  at("scene").classList.toggle("seen", Boolean(found));
  if (!found) return;
  const frame = document.createElement("div"), image = document.createElement("img");
  const { width, height, src } = found, scale = Math.max(1, Math.min(3, 640 / width));
  image.src = src;
  image.alt = "screenshot before the action";
  room.style.flexBasis = `min(${width * scale}px, ${(66 * width) / height}vh)`;
  frame.style.aspectRatio = `${width} / ${height}`;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}` }, "");
  const unit = Math.max(1 / scale, width / 900);
  svg.style.setProperty("--unit", `${unit}px`);
  if (target) drawBox(svg, target.map((side, i) => side + (i < 2 ? -3 : 3) * unit), "target");
  if (mark) {
    if (mark.kind === "box") drawBox(svg, mark.place, "mark");
    else if (mark.kind === "drag") drawDrag(svg, mark.place, unit);
    else drawPoint(svg, mark.place, unit);
  }
  frame.append(image, svg);
  room.append(frame);
}

function tag(text, kind) {
  const made = document.createElement("span");
  made.textContent = text;
  made.className = kind;
  return made;
}

function where(mark) {
  const numbers = mark.place.map((number) => Math.round(number * 10) / 10);
  if (mark.kind === "point") return `at ${numbers.join(", ")}`;
  const [x1, y1, x2, y2] = numbers;
  return mark.kind === "drag" ? `from ${x1}, ${y1} to ${x2}, ${y2}` : `box ${numbers.join(", ")}`;
}

function showTurn() {
  const episode = shown[place], over = turn === episode.turns.length, now = over ? episode.last : episode.turns[turn];
  stage(now.picture, now.mark, !over && turn === 0 ? episode.target : null);
  at("place").textContent = over ? `End, after ${episode.turns.length} turns` : `Turn ${turn + 1} of ${episode.turns.length}`;
  at("text").textContent = now.text;
  at("action").textContent = over ? "" : now.action || "(nothing)";
  at("action").hidden = over;
  at("times").textContent = over ? "" : now.facts;
  const marks = [];
  if (over) marks.push(tag(episode.outcome, episode.won ? "paid" : "bad"));
  else {
    if (now.invalid) marks.push(tag("no move", "bad"));
    else if (now.refused) marks.push(tag("refused by the world", "bad"));
    if (now.mistake) marks.push(tag("a mistake on purpose", "bad"));
    if (now.mark) marks.push(tag(where(now.mark), "quiet"));
    for (const reward of now.rewards) marks.push(tag(reward, now.reward < 0 ? "bad" : "paid"));
  }
  at("marks").replaceChildren(...marks);
  for (const [number, dot] of [...at("line").children].entries()) dot.setAttribute("aria-current", number === turn);
  history.replaceState(null, "", `#${episodes.indexOf(episode)}.${turn}`);
}

function dot(number, episode) {
  const made = document.createElement("button"), now = episode.turns[number];
  made.type = "button";
  made.textContent = now ? number + 1 : "end";
  if (now) made.className = now.invalid || now.refused ? "off" : now.reward > 0 ? "up" : now.reward < 0 ? "down" : "";
  made.addEventListener("click", () => { pause(); turn = number; showTurn(); });
  return made;
}

function showEpisode(start = 0) {
  const episode = shown[place];
  at("film").hidden = !episode;
  at("none").hidden = Boolean(episode);
  pause();
  if (!episode) return;
  at("episode").value = place;
  turn = Math.min(start, episode.turns.length);
  at("task").textContent = `${episode.env} · ${episode.task}`;
  at("outcome").textContent = episode.outcome;
  at("outcome").className = episode.won ? "outcome won" : episode.won === false ? "outcome lost" : "outcome";
  at("facts").textContent = episode.facts;
  at("error").textContent = episode.error;
  at("system").textContent = episode.system;
  at("told").hidden = !episode.system;
  at("line").replaceChildren(...Array.from({ length: episode.turns.length + 1 }, (_, number) => dot(number, episode)));
  showTurn();
}

function choose(wanted = null, start = 0) {
  const reel = Number(at("reel").value), won = at("won").value;
  shown = episodes.filter((one) => one.reel === reel && (won === "" || String(one.won) === won));
  at("episode").replaceChildren(...shown.map((one, number) => option(number, `${episodes.indexOf(one)}: ${one.task} · ${one.outcome}`)));
  place = Math.max(0, shown.indexOf(wanted));
  showEpisode(start);
}

function pause() {
  clearInterval(timer);
  timer = null;
  at("play").textContent = "Play";
}

function play() {
  if (timer !== null) return pause();
  if (turn >= shown[place].turns.length) turn = -1;
  const step = () => {
    go(turn + 1, true);
    if (turn >= shown[place].turns.length) pause();
  };
  timer = setInterval(step, Number(at("speed").value));
  at("play").textContent = "Pause";
  if (turn < 0) step();
}

function go(number, playing = false) {
  if (!playing) pause();
  turn = Math.max(0, Math.min(shown[place].turns.length, number));
  showTurn();
}

function goEpisode(number) {
  if (number < 0 || number >= shown.length) return;
  place = number;
  showEpisode();
}

at("reel").replaceChildren(...reels.map((title, number) => option(number, title)));
at("reel").hidden = reels.length < 2;
for (const id of ["reel", "won"]) at(id).addEventListener("change", () => choose());
at("episode").addEventListener("change", () => goEpisode(Number(at("episode").value)));
at("speed").addEventListener("change", () => { if (timer !== null) { pause(); play(); } });
const MOVES = {
  first: () => go(0), back: () => go(turn - 1), play, on: () => go(turn + 1), end: () => go(Infinity),
};
for (const [id, move] of Object.entries(MOVES)) at(id).addEventListener("click", move);
const KEYS = {
  ArrowLeft: MOVES.back, ArrowRight: MOVES.on, Home: MOVES.first, End: MOVES.end, " ": play,
  ArrowUp: () => goEpisode(place - 1), ArrowDown: () => goEpisode(place + 1),
};
addEventListener("keydown", (event) => {
  // A list that has the focus keeps its own keys; a button would be pressed by the space as well.
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT" || !KEYS[event.key] || !shown.length) return;
  event.preventDefault();
  KEYS[event.key]();
});
const [asked, start] = location.hash.slice(1).split(".").map(Number);
const wanted = episodes[asked] ?? episodes[0];
at("reel").value = wanted.reel;
choose(wanted, start || 0);
