
const items = data.items.map((item, place) => ({ ...item, place }));
const CHUNK = 100; // rows that the list grows by
const KINDS = { cho_e: "Cho.E", cho_h: "Cho.H", true_false: "true/false", free: "free-form", blink: "BLINK" };
const VERDICTS = {
  all: () => true,
  right: (question) => verdict(question) === "right",
  wrong: (question) => verdict(question) === "wrong",
  unparsed: (question) => verdict(question) === "unparsed",
};
let found = []; // [{ item, questions }]: what the filters leave
let here = 0;
let prompts = false; // whether the prompts are unfolded

const verdict = (question) => (question.right ? "right" : question.parsed === null ? "unparsed" : "wrong");
const wanted = (id, value) => get(id).value === "all" || get(id).value === value;
const letter = (place) => String.fromCharCode(65 + place);
const distinct = (values) => [...new Set(values)].filter(Boolean).sort();

// --- filters

function filter() {
  const before = found[here]?.item.place ?? 0;
  const inKind = items
    .filter((item) => wanted("difficulty", item.difficulty) && inCategory(item))
    .map((item) => ({ item, questions: item.questions.filter((question) => wanted("kind", question.kind)) }));
  showFigures(inKind);
  const passes = VERDICTS[get("verdict").value];
  found = inKind
    .map(({ item, questions }) => ({ item, questions: questions.filter(passes) }))
    .filter(({ questions }) => questions.length);
  here = Math.max(found.findIndex(({ item }) => item.place >= before), 0);
  get("list").replaceChildren();
  growTo(Math.max(CHUNK, here + 2));
  show();
}

function inCategory(item) {
  const value = get("category").value;
  return value === "all" || value === `group ${item.group}` || value === `answer ${item.answer}`;
}

function showFigures(inKind) {
  const all = inKind.flatMap(({ questions }) => questions);
  const share = (name) => {
    const count = all.filter((question) => verdict(question) === name).length;
    return el("b", { className: name }, `${count} ${name} (${((100 * count) / all.length).toFixed(1)} %)`);
  };
  const held = inKind.filter(({ questions }) => questions.length).length;
  get("figures").replaceChildren(`${all.length} questions about ${held} items`);
  if (all.length) get("figures").append(": ", share("right"), ", ", share("wrong"), ", ", share("unparsed"));
}

function pick(id, value) {
  get(id).value = value;
  filter();
}

function nextKind() {
  const kinds = [...get("kind").options].map((choice) => choice.value);
  pick("kind", kinds[(kinds.indexOf(get("kind").value) + 1) % kinds.length]);
}

// --- the list, its rows made as they are needed

function growTo(count) {
  const list = get("list");
  const from = list.children.length;
  list.append(...found.slice(from, count).map(({ item, questions }, i) => {
    const dots = questions.map((question) => el("i", { className: verdict(question) }));
    const row = el("button", { className: "row", title: item.id, tabIndex: -1 },
      el("span", {}, item.answer), el("span", { className: "dots" }, ...dots));
    row.addEventListener("click", () => { go(from + i); row.blur(); });
    return row;
  }));
}

function growOnScroll() {
  const list = get("list");
  if (list.scrollTop + 2 * list.clientHeight > list.scrollHeight) growTo(list.children.length + CHUNK);
}

// --- one item

function go(to) {
  if (!found[to]) return;
  here = to;
  growTo(here + 2);
  show();
  get("item").scrollTop = document.querySelector("main").scrollTop = 0;
}

function show() {
  const entry = found[here];
  get("what").hidden = !entry;
  get("questions").replaceChildren();
  document.querySelector(".row.here")?.classList.remove("here");
  if (!entry) return;
  const { item, questions } = entry;
  const row = get("list").children[here];
  row.classList.add("here");
  row.scrollIntoView({ block: "nearest" });
  get("place").textContent = `item ${here + 1} of ${found.length}`;
  get("image").src = picture(item.place);
  get("answer").textContent = item.answer;
  get("label").textContent = item.difficulty ?? "";
  get("label").hidden = !item.difficulty;
  const hidden = item.questions.length - questions.length;
  const left = hidden ? `${questions.length} of its ${item.questions.length} questions shown` : "";
  get("source").textContent = [item.group, item.file_name, item.id, left].filter(Boolean).join("; ");
  get("questions").append(...questions.map(card));
}

function card(question) {
  const state = verdict(question);
  const kind = KINDS[question.kind] ?? question.kind;
  const name = question.role ? `${kind}, ${question.role}` : kind;
  const head = el("div", { className: "line" },
    el("b", {}, name), el("span", { className: "soft" }, said(question)),
    el("span", { className: `verdict push ${state}` }, state));
  const system = question.system ? `${data.system}\n\n` : "";
  const folded = el("details", { open: prompts }, el("summary", {}, question.system ? "prompts" : "prompt"),
    el("p", { className: "text small" }, system + question.prompt));
  const seen = question.seen ? el("p", { className: "soft small" }, `not this picture was shown: ${question.seen}`) : null;
  return el("article", { className: `question ${state}` }, head, seen, options(question),
    el("p", { className: "text completion" }, question.completion || "(nothing)"), folded);
}

function said(question) {
  if (question.parsed === null) return `no answer read; true is ${question.truth}`;
  const close = question.similarity === undefined ? "" : `, similarity ${question.similarity.toFixed(2)}`;
  return question.right ? `said ${question.parsed}` : `said ${question.parsed}, true is ${question.truth}${close}`;
}

function options(question) {
  if (question.options.length === 0) return null;
  if (question.role) return el("div", { className: "chips" }, el("span", { className: "chip" }, question.options[0]));
  const chips = question.options.map((name, place) => {
    const chip = el("span", { className: "chip" }, `${letter(place)} ${name}`);
    chip.classList.toggle("truth", letter(place) === question.truth);
    chip.classList.toggle("given", letter(place) === question.parsed);
    return chip;
  });
  return el("div", { className: "chips" }, ...chips);
}

function togglePrompts() {
  prompts = !prompts;
  for (const folded of document.querySelectorAll("details")) folded.open = prompts;
}

// --- start

function fill(id, values, words = {}) {
  get(id).append(option("all", "all"), ...values.map((value) => option(value, words[value] ?? value)));
  get(id).parentElement.hidden = values.length < 2;
  onChoice(id, filter);
}

function fillCategories() {
  for (const group of distinct(items.map((item) => item.group))) {
    const answers = distinct(items.filter((item) => item.group === group).map((item) => item.answer));
    const choices = answers.map((answer) => option(`answer ${answer}`, answer));
    get("category").append(el("optgroup", { label: group }, option(`group ${group}`, `all of ${group}`), ...choices));
  }
}

get("title").textContent = document.title;
get("note").textContent = data.note;
get("note").hidden = !data.note;
fill("kind", distinct(items.flatMap((item) => item.questions.map((question) => question.kind))), KINDS);
fill("difficulty", distinct(items.map((item) => item.difficulty)));
fill("category", []);
fillCategories();
get("category").parentElement.hidden = items.every((item) => !item.group);
fill("verdict", ["right", "wrong", "unparsed"]);
bindKeys([
  { keys: ["j", "ArrowRight", "ArrowDown"], shown: "j → ↓", what: "next item", run: () => go(here + 1) },
  { keys: ["k", "ArrowLeft", "ArrowUp"], shown: "k ← ↑", what: "previous item", run: () => go(here - 1) },
  { keys: ["r"], shown: "r", what: "right answers only", run: () => pick("verdict", "right") },
  { keys: ["w"], shown: "w", what: "wrong answers only", run: () => pick("verdict", "wrong") },
  { keys: ["u"], shown: "u", what: "unparsed answers only", run: () => pick("verdict", "unparsed") },
  { keys: ["a"], shown: "a", what: "all answers", run: () => pick("verdict", "all") },
  { keys: ["t"], shown: "t", what: "next kind of question", run: nextKind },
  { keys: ["p"], shown: "p", what: "unfold or fold the prompts", run: togglePrompts },
  { keys: ["?"], shown: "?", what: "these keys", run: () => get("help").showModal() },
]);
get("list").addEventListener("scroll", growOnScroll);
get("previous").addEventListener("click", () => { go(here - 1); get("previous").blur(); });
get("next").addEventListener("click", () => { go(here + 1); get("next").blur(); });
filter();
