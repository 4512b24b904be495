
const pairs = data.pairs;
const LEVELS = ["easy", "moderate", "hard"];
const WORDS = { keep: "kept", drop: "dropped", relabel: "relabelled" };
const FILTERS = {
  all: () => true,
  undecided: (pair) => !action(pair),
  kept: (pair) => action(pair) === "keep",
  dropped: (pair) => action(pair) === "drop",
  relabelled: (pair) => action(pair) === "relabel",
  "with a note": (pair) => decisions[pair.id]?.note,
  "with a filled option": (pair) => (pair.filled ?? []).length,
  "without a trace": (pair) => !pair.trace,
  "without a label": (pair) => !label(pair),
  ...Object.fromEntries(LEVELS.map((level) => [level, (pair) => label(pair) === level])),
};
let decisions = {}; // pair id → { action, difficulty, answer, note }; a note may stand without an action
let here = 0;

const action = (pair) => decisions[pair.id]?.action;
const label = (pair) => decisions[pair.id]?.difficulty ?? pair.difficulty;
const answer = (pair) => decisions[pair.id]?.answer ?? pair.category_name;
const shown = (pair) => FILTERS[get("filter").value](pair);
const same = (one, two) => one.trim().toLowerCase() === two.trim().toLowerCase();

function say(text, bad = false) {
  get("message").textContent = text;
  get("message").className = bad ? "bad" : "";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => get("message").replaceChildren(), bad ? 6000 : 2500);
}

function store() {
  try {
    localStorage.setItem(data.key, JSON.stringify(decisions));
  } catch {
    say("This browser keeps nothing: save to a file before you close the page.", true);
  }
}

function restore() {
  try {
    decisions = JSON.parse(localStorage.getItem(data.key)) ?? {};
  } catch {
    decisions = {};
  }
  const first = pairs.findIndex((pair) => !action(pair));
  here = Math.max(first, 0);
}

// --- decisions

function change(edit) {
  const pair = pairs[here];
  const decision = { ...decisions[pair.id] };
  edit(decision, pair);
  decisions[pair.id] = decision;
  store();
  show();
}

function settle(decision) {
  decision.action = decision.difficulty || decision.answer ? "relabel" : "keep";
}

function keep() {
  change(settle);
  move(1);
}

function drop() {
  change((decision) => { decision.action = "drop"; });
  move(1);
}

function relabel(level) {
  change((decision, pair) => {
    decision.difficulty = level === pair.difficulty ? undefined : level;
    settle(decision);
  });
}

function rename(text) {
  const name = text.trim().replace(/\s+/g, " ");
  const pair = pairs[here];
  if ([...(pair.confusing ?? []), ...(pair.irrelevant ?? [])].some((other) => same(other, name))) {
    say(`“${name}” is one of the wrong options of this pair.`, true);
    return false;
  }
  change((decision) => {
    decision.answer = !name || name === pair.category_name ? undefined : name;
    settle(decision);
  });
  return true;
}

function clear() {
  change((decision) => {
    for (const field of ["action", "difficulty", "answer"]) delete decision[field];
  });
}

function write(note) {
  change((decision) => { decision.note = note.trim() || undefined; });
}

// --- moving

function move(step) {
  let to = here + step;
  while (pairs[to] && !shown(pairs[to])) to += step;
  if (pairs[to]) go(to);
  else if (pairs.every(action)) say("All pairs are decided. Save with s.");
  else say(step > 0 ? "The last one. g goes to the next undecided pair." : "The first one.");
}

function go(to) {
  here = to;
  show();
  document.querySelector("main").scrollTop = get("panel").scrollTop = 0;
}

function nextUndecided() {
  const order = [...pairs.keys()].map((i) => (here + 1 + i) % pairs.length);
  const to = order.find((i) => !action(pairs[i]));
  if (to === undefined) say("All pairs are decided. Save with s.");
  else go(to);
}

function filter() {
  const to = pairs.findIndex(shown);
  if (to < 0) say("No pair is like that.", true);
  else if (!shown(pairs[here])) here = to;
  show();
}

function toggleUndecided() {
  get("filter").value = get("filter").value === "undecided" ? "all" : "undecided";
  filter();
}

// --- drawing

function show() {
  const pair = pairs[here];
  const state = action(pair);
  const level = label(pair);
  get("image").src = picture(here);
  get("place").textContent = `pair ${here + 1} of ${pairs.length}`;
  get("state").textContent = WORDS[state] ?? "undecided";
  get("state").className = `push ${state ?? ""}`;
  get("panel").className = state === "drop" ? "dropped" : "";
  get("answer").textContent = answer(pair);
  const was = [];
  if (answer(pair) !== pair.category_name) was.push(`annotated as ${pair.category_name}`);
  if (level !== pair.difficulty) was.push(`proposed as ${pair.difficulty ?? "nothing"}`);
  get("was").textContent = was.join("; ");
  get("label").textContent = level ?? "no label";
  get("reason").textContent = pair.reason ?? "";
  chips("confusing", pair);
  chips("irrelevant", pair);
  get("trace").textContent = pair.trace ?? "none";
  const stars = pair.rating === undefined || pair.rating === null ? "not rated" : `${pair.rating} of 5`;
  get("rating").textContent = pair.rating_text ? `${stars}: ${pair.rating_text}` : stars;
  get("note").value = decisions[pair.id]?.note ?? "";
  const others = pair.others_visible ? "; another one stays visible" : "";
  get("source").textContent = `${pair.supercategory || "no supercategory"}${others}; ${pair.id}`;
  for (const name of LEVELS) get(name).className = name === level ? "on" : "";
  get("keep").className = state === "keep" ? "on" : "";
  get("drop").className = state === "drop" ? "on" : "";
  closeEdit();
  drawProgress();
}

function chips(field, pair) {
  const filled = pair.filled ?? [];
  const names = (pair[field] ?? []).map((name) =>
    el("span", { className: field === "confusing" && filled.includes(name) ? "chip filled" : "chip" }, name));
  get(field).replaceChildren(...(names.length ? names : [el("span", { className: "soft" }, "none")]));
}

function drawProgress() {
  const count = (kind) => pairs.filter((pair) => action(pair) === kind).length;
  const [kept, dropped, changed] = ["keep", "drop", "relabel"].map(count);
  get("progress").textContent =
    `${kept + dropped + changed} of ${pairs.length} decided: ${kept} kept, ${changed} relabelled, ${dropped} dropped`;
  [...get("map").children].forEach((square, i) => {
    square.className = [action(pairs[i]) ?? "", i === here ? "here" : "", shown(pairs[i]) ? "" : "hidden"].join(" ");
  });
  get("map").children[here].scrollIntoView({ block: "nearest" });
}

function edit() {
  get("answer-form").hidden = false;
  get("answer").hidden = get("edit").hidden = true;
  get("answer-input").value = answer(pairs[here]);
  get("answer-input").select();
}

function closeEdit() {
  get("answer-input").blur(); // at once: a hidden field keeps the keys until the next frame
  get("answer-form").hidden = true;
  get("answer").hidden = get("edit").hidden = false;
}

// --- files

function save() {
  const made = pairs.filter(action).map((pair) => {
    const { action: kind, difficulty, answer: name, note } = decisions[pair.id];
    return [pair.id, kind === "relabel" ? { action: kind, difficulty, answer: name, note } : { action: kind, note }];
  });
  const content = { format: "mpcc-decisions", version: 1, decisions: Object.fromEntries(made) };
  const blob = new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(blob), download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  const loose = pairs.filter((pair) => !action(pair) && decisions[pair.id]?.note).length;
  say(`Saved ${made.length} decisions.` + (loose ? ` Left out: ${loose} notes on undecided pairs.` : ""), loose > 0);
}

async function load(file) {
  try {
    const content = JSON.parse(await file.text());
    if (content?.format !== "mpcc-decisions") throw new Error("it is no decisions file");
    const known = pairs.filter((pair) => content.decisions[pair.id]);
    for (const pair of known) {
      const { action: kind, difficulty, answer: name, note } = content.decisions[pair.id];
      if (!WORDS[kind]) throw new Error(`${pair.id} has the unknown action ${kind}`);
      decisions[pair.id] = { action: kind, difficulty, answer: name, note };
    }
    const unknown = Object.keys(content.decisions).length - known.length;
    store();
    show();
    say(`Loaded ${known.length} decisions.` + (unknown ? ` Left out: ${unknown} of other pairs.` : ""), unknown > 0);
  } catch (error) {
    say(`Cannot load ${file.name}: ${error.message}.`, true);
  }
}

// --- start

const press = (id, run) => get(id).addEventListener("click", () => { run(); get(id).blur(); });

get("title").textContent = document.title;
get("filter").append(...Object.keys(FILTERS).map((name) => option(name, name)));
get("map").append(...pairs.map((pair, i) => {
  const square = el("button", { title: `${i + 1}: ${pair.category_name}`, tabIndex: -1 });
  square.addEventListener("click", () => { go(i); square.blur(); });
  return square;
}));
bindKeys([
  { keys: ["j", "ArrowRight"], shown: "j →", what: "next pair", run: () => move(1) },
  { keys: ["k", "ArrowLeft"], shown: "k ←", what: "previous pair", run: () => move(-1) },
  { keys: ["g"], shown: "g", what: "next undecided pair", run: nextUndecided },
  { keys: ["y", " "], shown: "y space", what: "keep (as relabelled, if it is), go on", run: keep },
  { keys: ["x"], shown: "x", what: "drop, go on", run: drop },
  ...LEVELS.map((level, i) =>
    ({ keys: [`${i + 1}`], shown: `${i + 1}`, what: `label it ${level}`, run: () => relabel(level) })),
  { keys: ["e"], shown: "e", what: "edit the answer (enter: done, esc: as it was)", run: edit },
  { keys: ["n"], shown: "n", what: "write a note (esc: done)", run: () => get("note").focus() },
  { keys: ["u"], shown: "u", what: "clear the decision", run: clear },
  { keys: ["f"], shown: "f", what: "show the undecided only, or all", run: toggleUndecided },
  { keys: ["s"], shown: "s", what: "save decisions.json", run: save },
  { keys: ["l"], shown: "l", what: "load a decisions file", run: () => get("file").click() },
  { keys: ["?"], shown: "?", what: "these keys", run: () => get("help").showModal() },
]);
press("previous", () => move(-1));
press("next", () => move(1));
press("keep", keep);
press("drop", drop);
press("undo", clear);
press("edit", edit);
press("save", save);
press("load", () => get("file").click());
LEVELS.forEach((level) => press(level, () => relabel(level)));
onChoice("filter", filter);
get("file").addEventListener("change", async () => {
  await load(get("file").files[0]);
  get("file").value = "";
});
get("note").addEventListener("change", () => write(get("note").value));
get("note").addEventListener("keydown", (event) => { if (event.key === "Escape") get("note").blur(); });
get("answer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rename(get("answer-input").value);
});
get("answer-input").addEventListener("keydown", (event) => { if (event.key === "Escape") closeEdit(); });
restore();
show();
