"use strict";

const SVG = new Set("circle defs g line marker path pattern rect svg text title tspan".split(" "));
const BLUE = [33, 102, 172]; // as in pictures of notebooks
const WHITE = [247, 247, 247];
const ORANGE = [201, 90, 10];
const CHARACTER = 6.7; // width of one of the graph's letters

const FIRST_MODULE = { module: 0, jacobian: 0, view: "values", cell: [0, 0] };

const state = {
  data: JSON.parse(document.getElementById("data").textContent),
  ...FIRST_MODULE,
  position: 0,
  frame: 0,
  timer: null,
  busy: new Set(),
  language: "en",
  turning: false, // whether it turns into another language when nothing is being computed
  trained: false, // whether the next step goes on with the replay
  running: false, // whether it trains on and on
  backward: null, // the step of the backward pass
  learned: { data: "spiral", draw: 0, function: "sin", points: [], label: 1, optimizer: "adam", rate: 0.02 }, // in training
  refused: {}, // texts in fields of the training that stand for nothing, by name; until they are mended nothing is trained
  weights: null, // the step of the training whose weights the modules show; null for those that the page was made with
  stop: null, // of the guided tour
  pad: [0, 0], // the place of the keyboard on the pad to draw on
  goal: null, // the step to which the server trains again
  restored: false, // whether the page shows what its address asked for
  generation: 0, // counts the models shown; answers about older ones are dropped
};

// Elements

/** An element of HTML or SVG, as in h("p.note", {id: "a"}, "text"). Attributes that start with "on" are listeners. */
function h(words, ...children) {
  const [tag, ...classes] = words.split(".");
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) element.classList.add(...classes);
  const attributes = children[0]?.constructor === Object ? children.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

const one = (selector, within = document) => within.querySelector(selector);
const body = (section) => one(`#${section} .body`);
const note = (text) => (text ? h("p.note", text) : null);

/** A table whose cells are texts or elements. `heads` holds [name, whether the column holds numbers]. */
function table(caption, heads, rows, { chosen = -1, hidden = false } = {}) {
  const place = ([, right]) => (right ? "right" : null);
  const head = heads.map((column) => h("th", { scope: "col", class: place(column) }, column[0]));
  const line = (cells, i) =>
    h(
      "tr",
      { class: i === chosen ? "chosen" : null },
      cells.map((cell, c) => h(c ? "td" : "th", { scope: c ? null : "row", class: place(heads[c]) }, cell)),
    );
  return scrolls(
    caption,
    h(
      "table",
      h("caption", { class: hidden ? "unseen" : null }, caption),
      h("thead", h("tr", head)),
      h("tbody", rows.map(line)),
    ),
  );
}

/** Content that may be wider than the window, in a box that scrolls, also with the keyboard. */
function scrolls(label, content) {
  const element = h("div.scroll", { role: "group", "aria-label": label }, content);
  const watch = new ResizeObserver(() => {
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  });
  watch.observe(element);
  return element;
}

/** Tells something in the corner of the window until it is closed. */
function tell(...words) {
  const close = button("×", () => (one("#told").hidden = true), { "aria-label": say("Close") });
  one("#told").replaceChildren(h("p", ...words), close);
  one("#told").hidden = false;
}

const button = (label, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, label);
