"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const picture = (number) => get(`picture-${number}`).textContent;

// An element; children are elements or text. Text never becomes markup.
function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function option(value, text) {
  return el("option", { value }, text);
}

// commands: [{ keys: ["j", "ArrowDown"], shown: "j ↓", what: "next", run }]; the help lists them all.
function bindKeys(commands) {
  const table = get("help").querySelector("table");
  for (const { shown, what } of commands) {
    const keys = shown.split(" ").flatMap((key) => [el("kbd", {}, key), " "]);
    table.append(el("tr", {}, el("td", {}, ...keys), el("td", {}, what)));
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (get("help").open) {
      if (event.key === "?") get("help").close();
      return;
    }
    // a focused button is pressed by space and enter itself
    if (event.target.matches("button, summary") && [" ", "Enter"].includes(event.key)) return;
    const command = commands.find(({ keys }) => keys.includes(event.key));
    if (!command) return;
    event.preventDefault();
    command.run();
  });
  get("help-button").addEventListener("click", () => get("help").showModal());
  get("help").addEventListener("click", (event) => {
    if (event.target === get("help")) get("help").close();
  });
}

// After a choice the keys work again, without a click elsewhere.
function onChoice(id, run) {
  get(id).addEventListener("change", () => {
    get(id).blur();
    run();
  });
}
