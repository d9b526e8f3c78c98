"use strict";
// Search, copy buttons and the open table of contents of the documentation. Without it the pages lack only these.

const el = (tag, props, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

// --- Search: every section of every page, from an index that is read when somebody searches -------------------------------

const MOST = 20;
const AROUND = 60;
let index = null;
const sections = () => index ??= fetch("/docs/search.json").then((answer) => answer.json());

// The sections that contain all words. A word in the title counts most, then one at the beginning of a word.
function find(all, words) {
  const found = [];
  for (const section of all) {
    const [title, text] = [section.title.toLowerCase(), section.text.toLowerCase()];
    let score = 0;
    for (const word of words) {
      const place = text.indexOf(word);
      if (title.includes(word)) score += title === word ? 40 : 20;
      else if (place < 0) { score = 0; break; }
      score += Math.min(5, text.split(word).length - 1);
    }
    if (score > 0) found.push({ section, score });
  }
  return found.sort((a, b) => b.score - a.score).slice(0, MOST).map(({ section }) => section);
}

function snippet(text, word) {
  const at = Math.max(0, text.toLowerCase().indexOf(word));
  const start = at > AROUND ? text.lastIndexOf(" ", at - AROUND) + 1 : 0;
  return `${start > 0 ? "… " : ""}${text.slice(start, at + 2 * AROUND)} …`;
}

const results = el("ul", { className: "results", id: "results" });
const said = el("p", { className: "said" });
said.setAttribute("role", "status");
const box = el("input", { type: "search", id: "search", placeholder: "press / to search", autocomplete: "off", spellcheck: false });
const form = el("form", { className: "search" }, el("label", { htmlFor: "search", textContent: "Search" }), box, said, results);
form.setAttribute("role", "search");
document.querySelector("nav .name").after(form);

box.addEventListener("focus", () => sections());
box.addEventListener("input", async () => {
  const asked = box.value;
  const words = asked.toLowerCase().split(/\s+/).filter((word) => word.length > 1);
  const found = words.length ? find(await sections(), words) : [];
  if (box.value !== asked) return;
  results.replaceChildren(...found.map(({ address, page, title, text }) => el("li", {},
    el("a", { href: address }, el("strong", { textContent: title }), ` ${title === page ? "" : page}`),
    el("span", { textContent: snippet(text, words[0]) }))));
  said.textContent = words.length ? (found.length ? "" : "nothing found") : "";
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const first = results.querySelector("a");
  if (first) location.href = first.href;
});
form.addEventListener("keydown", (event) => {
  const links = [box, ...results.querySelectorAll("a")];
  const here = links.indexOf(document.activeElement);
  if (event.key === "Escape") { box.value = ""; results.replaceChildren(); box.focus(); }
  else if (event.key === "ArrowDown" && links[here + 1]) links[here + 1].focus();
  else if (event.key === "ArrowUp" && links[here - 1]) links[here - 1].focus();
  else return;
  event.preventDefault();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches?.("input[type=search], textarea")) return;
  event.preventDefault();
  box.focus();
});

// --- Copy buttons -------------------------------------------------------------------------------------------------------

if (navigator.clipboard) {
  for (const block of document.querySelectorAll("pre")) {
    const button = el("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.innerText.trimEnd() + "\n");
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    const frame = el("div", { className: "code" });
    block.replaceWith(frame);
    frame.append(block, button);
  }
}
// A block that scrolls can be scrolled by the keyboard.
for (const block of document.querySelectorAll("pre, .table")) block.tabIndex = 0;

// --- The table of contents stays open where it has a column of its own ---------------------------------------------------

const contents = document.querySelector(".contents");
const wide = matchMedia("(min-width: 84rem)");
const arrange = () => { if (contents) contents.open = wide.matches; };
wide.addEventListener("change", arrange);
arrange();
