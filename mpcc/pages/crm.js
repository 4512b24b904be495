
const COLOURS = ["#d1495b", "#2e86ab", "#3b8a4e", "#b5790f", "#7b4fa3", "#0f8b8d", "#a63d72", "#5f6b1f"];
const colour = (region) => COLOURS[region % COLOURS.length];
const number = (value) => (value === null ? "–" : value.toFixed(2));
let here = 0;

const item = () => data.items[here];

const FAINT = 0.05;

// The region of the largest effect on a step, and that effect in nats a token; null where none is worth FAINT.
function strongest(row) {
  const best = row.reduce((found, value, r) => (value !== null && value > (row[found] ?? FAINT) ? r : found), -1);
  return best < 0 ? null : { region: best, value: row[best] };
}

// --- one picture

function go(to) {
  if (!data.items[to]) return;
  here = to;
  document.querySelector(".row.here")?.classList.remove("here");
  const row = get("list").children[here];
  row.classList.add("here");
  row.scrollIntoView({ block: "nearest" });
  get("place").textContent = `picture ${here + 1} of ${data.items.length}`;
  get("question").textContent = item().question;
  get("said").replaceChildren(answer(item().own), el("p", {}, `true: ${item().truth}`));
  showBoxes();
  showRegions();
  showTrace();
  unmask();
}

function showBoxes() {
  const [width, height] = item().size;
  get("boxes").replaceChildren(...item().regions.map(({ box, text }, r) => {
    const frame = el("div", { title: text });
    const [x, y, w, h] = box;
    Object.assign(frame.style, { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%`,
      width: `${(100 * w) / width}%`, height: `${(100 * h) / height}%`, borderColor: colour(r) });
    pointed(frame, () => mask(r));
    return frame;
  }));
}

function showRegions() {
  get("regions").replaceChildren(...item().regions.map(({ text, control }, r) => {
    const lost = item().own.right && !item().masked[r].right ? " · masked, the answer is lost" : "";
    const button = el("button", {}, `${r + 1}  ${text}${control ? "" : " (no control)"}${lost}`, stillNamed(r));
    button.style.borderLeftColor = colour(r);
    pointed(button, () => mask(r));
    return button;
  }));
}

// Whether a region that the model's own reasoning names is still named once it is masked.
function stillNamed(r) {
  const names = ({ steps }) => steps.some((step) => step.names.includes(r));
  if (!names(item().own)) return "";
  return names(item().masked[r]) ? el("span", { className: "wrong" }, " · masked, it is still named")
    : el("span", { className: "right" }, " · masked, it is no longer named");
}

function showTrace() {
  const { steps, delta } = item().scored;
  const rows = steps.map((step, k) => {
    const button = el("button", { className: "step" }, step.text);
    const best = strongest(delta[k]);
    if (best) {
      button.style.borderLeftColor = colour(best.region);
      button.style.backgroundColor = `color-mix(in srgb, ${colour(best.region)} ${Math.min(60, 60 * best.value)}%, white)`;
    }
    pointed(button, () => showRow(k));
    return button;
  });
  const kind = item().scored.annotated ? "an annotated trace" : "the model's own trace";
  get("trace").replaceChildren(...rows, el("p", { className: "soft small" }, steps.length ? kind : `${kind} has no step`));
}

// --- what a step depends on

function showRow(k) {
  unmask();
  mark("#trace .step", k);
  const { steps, delta, control, name } = item().scored;
  const most = Math.max(...delta[k].map((value) => Math.abs(value ?? 0)), 0.01);
  const rows = item().regions.map(({ text }, r) => {
    const bar = el("span", { className: "bar" });
    bar.style.width = `${(8 * Math.max(delta[k][r] ?? 0, 0)) / most}rem`;
    bar.style.backgroundColor = colour(r);
    return el("tr", { className: steps[k].names.includes(r) ? "named" : "" }, el("td", {}, `${r + 1}  ${text}`),
      el("td", { className: "number" }, number(delta[k][r])), el("td", {}, bar),
      el("td", { className: "number" }, number(name[k][r])), el("td", { className: "number" }, number(control[k][r])));
  });
  const head = ["region (bold: the step names it)", "step", "", "its names", "control"].map((text) => el("th", {}, text));
  get("detail").replaceChildren(el("h3", {}, "Loss of log-probability with the region masked, in nats a token"),
    el("table", { className: "matrix small" }, el("tr", {}, ...head), ...rows));
}

// --- what is said without a region

function mask(r) {
  if (!item().regions[r]) return;
  const [, regions] = item().pictures;
  get("image").src = picture(regions[r]);
  mark("#boxes div", r);
  mark("#regions button", r);
  mark("#trace .step", -1);
  get("shown").textContent = `region ${r + 1} masked`;
  const told = item().masked[r];
  const own = item().own.steps;
  const partner = new Map(told.pairs.map(([i, j]) => [j, i]));
  const lines = told.steps.map((step, j) => {
    const from = partner.get(j);
    return el("tr", { className: from === undefined ? "alone" : "" },
      el("td", {}, from === undefined ? "(no partner)" : own[from].text),
      el("td", { className: step.names.includes(r) ? "named" : "" }, step.text));
  });
  const gone = own.filter((_, i) => !told.pairs.some(([paired]) => paired === i));
  lines.push(...gone.map((step) => el("tr", { className: "alone" }, el("td", {}, step.text), el("td", {}, "(no partner)"))));
  get("detail").replaceChildren(
    el("h3", {}, `What is said without region ${r + 1}; ${Math.round(100 * told.aligned)} % of the steps aligned`),
    el("table", { className: "matrix small" },
      el("tr", {}, el("th", {}, "before"), el("th", {}, "after (bold: it still names the region)")), ...lines),
    answer(told));
}

function answer({ given, right }) {
  const verdict = right ? "right" : "wrong";
  return el("p", { className: verdict }, `answer: ${given ?? "nothing readable"} (${verdict})`);
}

function unmask() {
  get("image").src = picture(item().pictures[0]);
  mark("#boxes div", -1);
  mark("#regions button", -1);
  get("shown").textContent = "nothing masked";
}

function mark(selector, place) {
  document.querySelectorAll(selector).forEach((node, i) => node.classList.toggle("on", i === place));
}

// Pointing, and for those without a pointer focus or a tap.
function pointed(node, run) {
  for (const event of ["mouseenter", "focus", "click"]) node.addEventListener(event, run);
}

function step(by) {
  const steps = item().scored.steps.length;
  const now = [...document.querySelectorAll("#trace .step")].findIndex((node) => node.classList.contains("on"));
  if (steps) showRow((now + by + steps) % steps);
}

// --- start

get("title").textContent = document.title;
get("summary").textContent = data.summary;
get("verdict").append(...data.verdict.map((line) => el("li", {}, line.replace(/^- /, ""))));
get("list").append(...data.items.map(({ id, own, truth }, i) => {
  const row = el("button", { className: `row ${own.right ? "right" : "wrong"}`, title: id, tabIndex: -1 }, truth);
  row.addEventListener("click", () => { go(i); row.blur(); });
  return row;
}));
get("previous").addEventListener("click", () => go(here - 1));
get("next").addEventListener("click", () => go(here + 1));
bindKeys([
  { keys: ["j", "ArrowRight"], shown: "j →", what: "next picture", run: () => go(here + 1) },
  { keys: ["k", "ArrowLeft"], shown: "k ←", what: "previous picture", run: () => go(here - 1) },
  { keys: ["s", "ArrowDown"], shown: "s ↓", what: "next step", run: () => step(1) },
  ...[..."12345678"].map((key) => ({ keys: [key], shown: key, what: `mask region ${key}`, run: () => mask(key - 1) })),
  { keys: ["0"], shown: "0", what: "mask nothing", run: unmask },
  { keys: ["?"], shown: "?", what: "these keys", run: () => get("help").showModal() },
]);
go(0);
