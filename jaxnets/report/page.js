"use strict";

const SVG = new Set("circle defs g line marker path pattern rect svg text title tspan".split(" "));
const BLUE = [33, 102, 172]; // as in pictures of notebooks
const WHITE = [247, 247, 247];
const ORANGE = [201, 90, 10];
const CHARACTER = 6.7; // width of one of the graph's letters

const state = {
  data: JSON.parse(document.getElementById("data").textContent),
  module: 0,
  jacobian: 0,
  view: "values",
  cell: [0, 0],
  position: 0,
  frame: 0,
  timer: null,
  busy: new Set(),
  trained: false, // whether the replay is one that the server goes on with
  generation: 0, // of models: answers about an older one are dropped
};

// Elements

/** An element of HTML or SVG, as h("p.note", {id: "a"}, "text"); attributes that start with "on" are listeners. */
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

/** A table; cells are texts or elements, `heads` tells which columns are numbers. */
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

/** What may be wider than the window scrolls by itself, with the keyboard too. */
function scrolls(label, content) {
  const element = h("div.scroll", { role: "group", "aria-label": label }, content);
  const watch = new ResizeObserver(() => {
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  });
  watch.observe(element);
  return element;
}

const button = (label, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, label);

// Numbers and names

/** Data has texts for what JSON cannot write: "nan", "inf", "-inf". */
const number = (x) => (typeof x === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[x] : x);

function short(x, digits = 3) {
  const value = number(x);
  if (!Number.isFinite(value)) return String(x);
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}

const grouped = (x) => (number(x) < 1e15 ? x.toLocaleString("en") : short(x));

function bytes(x) {
  const n = number(x);
  if (!Number.isFinite(n)) return "unlimited";
  const unit = n < 1000 ? 0 : Math.min(Math.floor(Math.log10(n) / 3), 4);
  return `${Number((n / 1000 ** unit).toPrecision(unit ? 3 : 15))} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

const subscript = (n) => String(n).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

/** Short names of the weights, w₁ for params[0]['w']: the last key, numbered by what stands before it. */
function shortNames(items) {
  const groups = [];
  const names = new Map();
  for (const { kind, label } of items) {
    if (kind !== "weight") continue;
    const [, before, key] = /^(.*?)[[.]?['"]?(\w+)['"]?\]?$/.exec(label) ?? [null, "", label];
    if (!groups.includes(before)) groups.push(before);
    names.set(label, (/^\d/.test(key) ? `p${subscript(key)}·` : key) + subscript(groups.indexOf(before) + 1));
  }
  return names;
}

/** The indices of the n-th entry of an array, row by row. */
function unravel(n, shape) {
  const indices = shape.map(() => 0);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    indices[axis] = n % shape[axis];
    n = Math.floor(n / shape[axis]);
  }
  return indices;
}

function entry(name, n, shape, example) {
  const indices = [...(example ? ["b=0"] : []), ...unravel(n, shape)];
  return indices.length ? `${name}[${indices.join(",")}]` : name;
}

// The graph

const TIP = { viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto-start-reverse" };

const isModule = (item) => item.module != null;

/** Where everything stands, in pixels: weights are stacked to the left of the block that uses them. */
function layout({ items, arrows }) {
  const names = shortNames(items);
  const nodes = items.map((item) => {
    const name = item.kind === "output" && !item.shape.length ? "C" : (names.get(item.label) ?? item.label);
    const label = name.length > 16 ? `${name.slice(0, 15)}…` : name;
    const letters = label.length * 7.7;
    const value = isModule(item) ? `h${subscript(item.module + 1)}` : name;
    return { item, name, label, value, width: isModule(item) ? Math.max(104, letters + 22) : Math.max(32, letters + 14) };
  });
  const links = arrows.map(({ source, target, block, gradient }) => {
    const [from, to] = [nodes[source], nodes[target]];
    const [row, product] = gradient.split(" = ");
    const rows = to.item.row - from.item.row;
    const kind = from.item.column < 0 ? "side" : rows === 1 ? "down" : "long";
    const back = [`∂C/∂${from.value}${block ? "" : " = 1"}`, row, product ? `= ${product}` : ""];
    return { from, to, kind, block, words: [from.value, block?.dims ?? "", ""], back };
  });
  const reach = (kind) => {
    const words = links.filter((link) => link.kind === kind).flatMap(({ words, back }) => [words, back]);
    return (
      CHARACTER *
      Math.max(0, ...words.map(([value, dims, product]) => Math.max(value.length + 1 + dims.length, product.length)))
    );
  };

  const [weights, others] = [nodes.filter(({ item }) => item.column < 0), nodes.filter(({ item }) => item.column >= 0)];
  const stack = (row) => weights.filter(({ item }) => item.row === row);
  const widest = Math.max(...others.map((node) => node.width));
  const bulge = Math.max(0, ...weights.map((node) => node.width));
  const left = bulge ? bulge + reach("side") + 34 : 8;
  const beside = Math.max(0, reach("down") + 12 - widest / 2);
  let y = 24;
  for (let row = 0; row <= Math.max(...items.map((item) => item.row)); row++) {
    const height = Math.max(34, 38 * stack(row).length);
    for (const node of others.filter(({ item }) => item.row === row)) {
      const x = left + widest / 2 + node.item.column * (widest + beside + 16);
      Object.assign(node, { x, y: y + height / 2, height: isModule(node.item) ? height : 32 });
    }
    stack(row).forEach((node, i, { length }) =>
      Object.assign(node, { x: 4 + bulge / 2, y: y + height / 2 + 38 * (i - (length - 1) / 2), height: 32 }),
    );
    y += height + 44;
  }
  // Long arrows run in lanes on the right, each in the first lane that is free between its rows.
  const right = Math.max(...others.map((node) => node.x)) + widest / 2 + beside + 20;
  const lane = reach("long") + 16;
  const lanes = [];
  for (const link of links.filter(({ kind }) => kind === "long")) {
    const [start, end] = [link.from.item.row, link.to.item.row];
    let free = lanes.findIndex((spans) => spans.every(([a, b]) => b <= start || a >= end));
    if (free < 0) free = lanes.push([]) - 1;
    lanes[free].push([start, end]);
    link.lane = right + free * lane;
  }
  return { nodes, links, width: right + lanes.length * lane, height: y - 30 };
}

/** The line of an arrow, in the direction of the values, and where its words stand. */
function route({ from, to, kind, lane }, links) {
  const [x, end] = [from.x + from.width / 2, to.x + to.width / 2];
  const middle = (from.y + to.y) / 2;
  if (kind === "long") {
    const d = `M${x} ${from.y}C${lane} ${from.y} ${lane} ${from.y} ${lane} ${middle}S${lane} ${to.y} ${end} ${to.y}`;
    return { d, at: [lane + 6, middle] };
  }
  if (kind === "side" && to.item.column < 0) {
    return { d: `M${x} ${from.y}C${x + 40} ${from.y} ${x + 40} ${to.y} ${end} ${to.y}`, at: [x + 34, middle] };
  }
  if (kind === "side") {
    const [start, y] = [end - to.width, from.item.row === to.item.row ? from.y : to.y];
    return { d: `M${x} ${from.y}C${x + 30} ${from.y} ${start - 30} ${y} ${start} ${y}`, at: [x + 8, from.y] };
  }
  const rivals = links.filter((other) => other.to === to && other.kind === "down").map((other) => other.from);
  const share = (rivals.indexOf(from) + 1) / (rivals.length + 1) - 0.5;
  const [into, y, top] = [to.x + share * to.width, from.y + from.height / 2, to.y - to.height / 2];
  const bend = (y + top) / 2;
  return { d: `M${from.x} ${y}C${from.x} ${bend} ${into} ${bend} ${into} ${top}`, at: [(from.x + into) / 2 + 8, bend] };
}

/** The block diagram; `back` draws the gradients, on the same places. */
function drawGraph(diagram, back) {
  const place = layout(diagram);
  const tip = back ? "tip-back" : "tip";
  const names = place.nodes.filter(({ item }) => isModule(item)).map(({ name }) => name);
  const svg = h(
    "svg.graph",
    {
      role: "group",
      "aria-label": `${back ? "Gradients, through" : "Values, through"} ${names.join(", ")}`,
      viewBox: `0 0 ${place.width} ${place.height}`,
      width: place.width,
      style: `min-width:${Math.round(place.width * 0.78)}px`,
    },
    h("defs", h("marker", { id: tip, ...TIP }, h("path.tip", { d: "M0 0L8 4L0 8z" }))),
  );
  for (const link of place.links) {
    const {
      d,
      at: [x, y],
    } = route(link, place.links);
    const [value, dims, product] = back ? link.back : link.words;
    const [first, second] = link.kind === "side" ? [-5, 13] : product ? [-3, 11] : [4, 0]; // over and under a level arrow
    svg.append(
      h("path.arrow", { d, [back ? "marker-start" : "marker-end"]: `url(#${tip})` }),
      h("text", { x, y: y + first }, h("tspan.value", value), h("tspan.math", ` ${dims}`)),
      h("text.math", { x, y: y + second }, product),
    );
  }
  for (const node of place.nodes) svg.append(drawNode(node, place.links));
  return svg;
}

function drawNode(node, links) {
  const { item, x, y, width, height } = node;
  const round = item.kind === "cost" ? 0 : item.kind === "function" ? 9 : height / 2;
  const into = links.filter((link) => link.to === node && link.block);
  const parts = into.map((link) => `${link.block.argument} from ${link.from.name} ${link.block.dims}`);
  const words = `${item.label}, shape [${item.shape}]${parts.length ? `; Jacobians by ${parts.join(", by ")}` : ""}`;
  const shape = [
    h("title", words),
    h("rect.block", { x: x - width / 2, y: y - height / 2, width, height, rx: round }),
    h("text.name", { x, y: y + 4 }, node.label),
  ];
  if (!isModule(item)) return h("g", { class: item.kind, role: "img", "aria-label": words }, shape);
  return h(
    "g",
    {
      class: item.kind,
      role: "button",
      "aria-label": `${item.kind === "cost" ? "Cost" : "Module"} ${item.module + 1}: ${words}`,
      "aria-pressed": String(item.module === state.module),
      tabindex: item.module === state.module ? 0 : -1,
      "data-module": item.module,
      onclick: () => choose(item.module, true),
      onkeydown: (event) => graphKey(event, item.module),
    },
    shape,
  );
}

function graphKey(event, module) {
  const last = state.data.modules.length - 1;
  const [before, after] = [Math.max(0, module - 1), Math.min(last, module + 1)];
  const to = { ArrowDown: after, ArrowRight: after, ArrowUp: before, ArrowLeft: before, Home: 0, End: last }[event.key];
  if (event.key === "Enter" || event.key === " ") choose(module, true);
  else if (to == null) return;
  else {
    const svg = event.currentTarget.ownerSVGElement;
    const next = one(`[data-module="${to}"]`, svg);
    for (const other of svg.querySelectorAll("[data-module]")) other.setAttribute("tabindex", other === next ? 0 : -1);
    next.focus();
  }
  event.preventDefault();
}

function renderGraph() {
  const { diagram } = state.data;
  const side = (title, back) => h("figure", h("h3", title), scrolls(title, drawGraph(diagram, back)));
  body("graph").replaceChildren(
    h("div.columns", side("Values and Jacobians", false), side("Gradients", true)),
    h("p.note", state.data.note),
  );
}

/** Shows a module; `go` also moves the window there. */
function choose(module, go = false) {
  Object.assign(state, { module, jacobian: 0, view: "values", cell: [0, 0] });
  for (const other of document.querySelectorAll("[data-module]")) {
    const chosen = Number(other.dataset.module) === module;
    other.setAttribute("aria-pressed", String(chosen));
    other.setAttribute("tabindex", chosen ? 0 : -1);
  }
  renderModule();
  if (go) one("#module").scrollIntoView();
}

// The module

/** Python with its keywords, texts and comments marked. */
function highlighted(source) {
  const tokens =
    /("""[^]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(#[^\n]*)|\b(def|return|lambda|if|else|elif|for|in|not|and|or|is|None|True|False|class|with|while|raise|import|from|as)\b/g;
  const code = h("code");
  let end = 0;
  for (const match of source.matchAll(tokens)) {
    const kind = match[1] ? (match[1].startsWith('"""') ? "comment" : "string") : match[2] ? "comment" : "keyword";
    code.append(source.slice(end, match.index), h("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  code.append(source.slice(end));
  return code;
}

/** A docstring as paragraphs; formulae, which it sets side by side, under each other. */
function documentation(text) {
  return text
    .split(/\n\s*\n/)
    .filter(Boolean)
    .map((part) => {
      const lines = part.includes("∂") ? part.split(/\s{2,}|\n/) : [part.replace(/\s+/g, " ")];
      return lines.map((line) => h(line.startsWith("∂") ? "p.formula.small" : "p.note", line));
    });
}

/** Code without the indentation that all of its lines have. */
function dedented(source) {
  const indents = source
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => /^ */.exec(line)[0].length);
  return source.replace(new RegExp(`^ {${Math.min(...indents)}}`, "gm"), "").trimEnd();
}

const listing = (title, source) =>
  source ? [h("h3", title), h("pre", { tabindex: 0, "aria-label": title }, highlighted(dedented(source)))] : [];

function renderModule() {
  const { modules } = state.data;
  const module = modules[state.module];
  const step = (to, label) => {
    const name = modules[to]?.name;
    return name ? [button(label(name), () => choose(to), { "data-to": to, "aria-label": `Module ${to + 1}: ${name}` })] : [];
  };
  const words = module.jacobians.map((j) =>
    h(
      "div.jacobian",
      h("p.formula", j.formula),
      h(
        "dl",
        [
          ["dims", j.dims, "math"],
          ["structure", j.structure],
          ["stored", bytes(j.stored)],
          ["dense", bytes(j.dense)],
        ].flatMap(([term, text, kind]) => [h("dt", term), h("dd", { class: kind }, text)]),
      ),
    ),
  );
  const focused = one("#steps").contains(document.activeElement);
  one("#module-name").replaceChildren(
    module.name,
    h("span.math.quiet", ` ${state.module + 1} of ${modules.length}, output [${module.output}]`),
  );
  one("#steps").replaceChildren(
    ...[step(state.module - 1, (name) => `← ${name}`), step(state.module + 1, (name) => `${name} →`)].flat(),
  );
  if (focused) (one(`[data-to="${state.module + 1}"]`) ?? one("#steps button"))?.focus();
  body("module").replaceChildren(
    h(
      "div.pane",
      h("div", words, documentation(module.documentation)),
      h(
        "div",
        listing("Forward", module.forward),
        listing("Rule", module.rule),
        module.file ? h("p.math.quiet", module.file) : note("This function is one of JAX; there is no code to show."),
      ),
      h("div", { id: "picture" }),
    ),
  );
  renderPicture();
}

/** Radio buttons; `choices` are [value, label, disabled]. */
function radios(legend, name, choices, value, onchange) {
  return h(
    "fieldset.controls",
    h("legend", legend),
    choices.map(([key, label, disabled]) =>
      h(
        "label",
        h("input", { type: "radio", name, value: key, checked: key === value, disabled, onchange: () => onchange(key) }),
        ` ${label}`,
      ),
    ),
  );
}

const WAYS = { values: "hand-written", autodiff: "autodiff", difference: "difference" };

function renderPicture() {
  const { jacobians } = state.data.modules[state.module];
  const known = (view) => view === "values" || jacobians[state.jacobian][view] != null;
  const names = jacobians.map((j, i) => [i, j.argument]);
  const byArgument = radios("Jacobian by", "argument", names, state.jacobian, (i) => {
    Object.assign(state, { jacobian: i, cell: [0, 0] });
    if (!known(state.view)) state.view = "values";
    renderPicture();
    one(`[name="argument"][value="${i}"]`).focus();
  });
  const views = ["values", "autodiff", "difference"].map((view) => [view, WAYS[view], !known(view)]);
  const byView = radios("Show", "view", views, state.view, (view) => {
    state.view = view;
    renderHeat();
  });
  one("#picture").replaceChildren(...(jacobians.length > 1 ? [byArgument] : []), byView, h("figure", { id: "heat" }));
  renderHeat();
}

/** The numbers of a view of a Jacobian, as rows. */
function numbers(j, view) {
  const sparse = j[view] ?? [];
  if (view === "values") return j.values;
  const found = view === "difference" ? j.values.map((row) => row.map(() => 0)) : j.values.map((row) => [...row]);
  for (const [r, c, x] of sparse) found[r][c] = x;
  return found;
}

const mixed = (end, share) => `rgb(${WHITE.map((w, i) => Math.round(w + (end[i] - w) * share))})`;

/** From blue over nearly white to orange, by the square root, so that small numbers are seen as well. */
function colour(x, largest) {
  const value = number(x);
  if (!Number.isFinite(value)) return "url(#unknown)";
  return mixed(value < 0 ? BLUE : ORANGE, Math.sqrt(Math.abs(value) / (largest || 1)));
}

function renderHeat() {
  const module = state.data.modules[state.module];
  const j = module.jacobians[state.jacobian];
  const values = numbers(j, state.view);
  const [rows, columns] = [values.length, values[0].length];
  const largest = Math.max(0, ...values.flat().map(number).filter(Number.isFinite).map(Math.abs));
  const shown = (r, c) => j.possible[r][c] === "1" || number(values[r][c]) !== 0;
  const name = state.view === "difference" ? "hand-written − autodiff" : WAYS[state.view];
  const { svg, size, left, top } = drawHeat(j, rows, columns, (r, c) =>
    shown(r, c) ? colour(values[r][c], largest) : null,
  );
  const label = `${name}, ∂y/∂${j.argument} of ${module.name}, ${rows} by ${columns} cells; arrow keys read them`;
  const attributes = { role: "application", "aria-roledescription": "heat map", "aria-label": label, tabindex: 0 };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);

  const readout = h("p.readout", { role: "status" });
  const cursor = one(".cursor", svg);
  const show = (...cell) => {
    const [r, c] = cell.map((n, axis) => Math.max(0, Math.min([rows, columns][axis] - 1, n)));
    state.cell = [r, c];
    cursor.setAttribute("x", left + c * size);
    cursor.setAttribute("y", top + r * size);
    const where = `∂${entry("y", r, j.output, j.example)}/∂${entry(j.argument, c, j.input, j.example)}`;
    readout.textContent = `${where} = ${shown(r, c) ? values[r][c] : "0, zero by structure"}`;
  };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale - left, (event.clientY - box.top) * scale - top];
    if (x >= 0 && y >= 0) show(Math.floor(y / size), Math.floor(x / size));
  };
  svg.addEventListener("mousemove", point);
  svg.addEventListener("click", point);
  svg.addEventListener("keydown", (event) => {
    const [r, c] = state.cell;
    const near = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1] };
    const to = { ...near, Home: [r, 0], End: [r, columns], PageUp: [0, c], PageDown: [rows, c] }[event.key];
    if (!to) return;
    show(...to);
    event.preventDefault();
  });

  const [height, width] = [j.output, j.input].map((shape) => shape.reduce((a, b) => a * b, 1));
  const part = rows < height || columns < width ? `first ${rows}×${columns} of ${height}×${width}` : `${rows}×${columns}`;
  const hatched = j.possible.some((row) => row.includes("0"));
  const caption = h("figcaption", `${name}; ${part}${j.example ? ", of example 0" : ""}`);
  one("#heat").replaceChildren(svg, readout, legend(largest, hatched), caption);
  show(...state.cell);
}

/** The picture: a square where `fill` has a colour for it, and else the hatched ground. */
function drawHeat(j, rows, columns, fill) {
  const size = Math.max(7, Math.min(34, Math.floor(320 / Math.max(columns, rows * 0.75))));
  const [left, top, width, height] = [40, 22, columns * size, rows * size];
  const cells = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const place = { x: left + c * size, y: top + r * size, width: size, height: size };
      if (fill(r, c)) cells.push(h("rect", { ...place, fill: fill(r, c), "data-cell": `${r},${c}` }));
    }
  }
  const units = { patternUnits: "userSpaceOnUse" };
  const all = { x: left, y: top, width, height };
  const tick = (text, x, y, anchor) => h("text", { x, y, "text-anchor": anchor }, text);
  const svg = h(
    "svg.heat",
    { viewBox: `0 0 ${left + width + 1} ${top + height + 1}`, width: left + width + 1, "shape-rendering": "crispEdges" },
    h(
      "defs",
      h(
        "pattern",
        { id: "hatch", width: 6, height: 6, patternTransform: "rotate(45)", ...units },
        h("path.hatches", { d: "M0 0V6", "stroke-width": 1.6 }),
      ),
      h(
        "pattern",
        { id: "unknown", width: size, height: size, x: left, y: top, ...units },
        h("path", { d: `M0 0H${size}V${size}H0z` }),
        h("path", { d: `M0 0L${size} ${size}M${size} 0L0 ${size}`, stroke: "#fff" }),
      ),
    ),
    h("rect.ground", all),
    h("rect", { fill: "url(#hatch)", "data-hatch": true, ...all }),
    cells,
    h("rect.frame", all),
    tick("0", left + size / 2, top - 6, "middle"),
    columns > 1 ? tick(columns - 1, left + width - size / 2, top - 6, "middle") : null,
    width > 90 ? tick(`${j.argument} →`, left + width / 2, top - 6, "middle") : null,
    tick("0", left - 6, top + Math.min(size / 2 + 4, 14), "end"),
    rows > 1 ? tick(rows - 1, left - 6, top + height - size / 2 + 4, "end") : null,
    height > 60 ? tick("y ↓", left - 6, top + height / 2 + 4, "end") : null,
    h("rect.cursor", { width: size, height: size }),
  );
  return { svg, size, left, top };
}

/** The scale of colours, and what a hatched cell says. */
function legend(largest, hatched) {
  const steps = 40;
  const bar = Array.from({ length: steps + 1 }, (_, i) => {
    const share = (2 * i) / steps - 1;
    return h("rect", { x: 6 + i * 5, y: 2, width: 5.3, height: 12, fill: colour(share, 1) });
  });
  const word = (text, x, anchor) => h("text", { x, y: 28, "text-anchor": anchor }, text);
  return h(
    "div.row",
    h(
      "svg.legend",
      {
        viewBox: "0 0 217 32",
        width: 217,
        role: "img",
        "aria-label": `colours from −${short(largest)} to ${short(largest)}`,
      },
      bar,
      word(largest ? `−${short(largest)}` : "", 6, "start"),
      word("0", 108, "middle"),
      word(largest ? short(largest) : "", 211, "end"),
    ),
    hatched
      ? h(
          "span.note",
          h("span.swatch", {
            style: "background:repeating-linear-gradient(135deg,var(--card) 0 3px,var(--hatch) 3px 4px)",
          }),
          "zero by structure",
        )
      : null,
  );
}

// Order

function renderOrder() {
  const { chain, plans } = state.data;
  const factors = chain
    ? [
        h("h3", "The chain"),
        h(
          "ol.chain",
          { "aria-label": "Dimensions of the chain" },
          chain.split(/(?<=\])·/).map((factor) => h("li", factor)),
        ),
      ]
    : [];
  const plan = ({ title, costs, order }) => {
    const least = Math.min(...costs.map((cost) => number(cost.multiplies)));
    const most = Math.max(...costs.map((cost) => number(cost.multiplies)));
    const rows = costs.map((cost) => [
      cost.chosen ? `${cost.name} ✓ chosen` : cost.name,
      [grouped(cost.multiplies), track(number(cost.multiplies) / (most || 1))],
      least ? (number(cost.multiplies) / least).toFixed(2) : "1.00",
      bytes(cost.peak_bytes),
    ]);
    return h(
      "div",
      table(title, [["order"], ["multiplications"], ["of the least", true], ["peak memory", true]], rows, {
        chosen: costs.findIndex((cost) => cost.chosen),
      }),
      order.length
        ? [
            h("h3", "Multiplied in this order"),
            h(
              "ol.steps",
              order.map((name) => h("li", name)),
            ),
          ]
        : note("Nothing lies between input and output."),
    );
  };
  body("order").replaceChildren(...factors, h("div.columns", plans.map(plan)));
}

const track = (share) => h("span.track", h("span.bar", { style: `width:${100 * share}%` }));

// Comparison

/** A bar as long as an error has digits, ten at most. */
const digits = (ulp) => track(Number.isFinite(number(ulp)) ? Math.min(1, Math.log10(1 + number(ulp)) / 10) : 1);

function comparison({ title, dtype, blocks }) {
  const methods = [...new Set(blocks.flatMap((block) => Object.keys(block.errors)))];
  const timed = [...new Set(blocks.flatMap((block) => Object.keys(block.milliseconds)))];
  const error = (found) =>
    found ? [short(found.absolute, 2), h("small", `${short(found.ulp, 2)} ULP`), digits(found.ulp)] : "–";
  const rows = blocks.map((block) => [
    [h("code", block.name), h("small", `[${block.output}]×[${block.input}]`)],
    block.structure,
    [bytes(block.stored), h("small", `of ${bytes(block.dense)}`)],
    ...methods.map((method) => error(block.errors[method])),
    ...timed.map((method) => (block.milliseconds[method] == null ? "–" : short(block.milliseconds[method], 2))),
    block.verdict,
  ]);
  const last = [...methods.map((name) => `error to ${name}`), ...timed.map((name) => `ms of ${name}`), "verdict"];
  const heads = ["Jacobian", "structure", "stored", ...last].map((head) => [head]);
  const agree = blocks.filter((block) => block.verdict.startsWith("ok")).length;
  return h("div", table(title, heads, rows), note(`${agree} of ${blocks.length} Jacobians agree in ${dtype}.`));
}

/** The tables, or why there are none. */
function renderComparison(refusal) {
  const { comparisons } = state.data;
  const again = button("Try again", () => fillComparisons(settings()));
  const words = refusal ? [h("p.alert", refusal), again] : [h("p", "computing…")];
  body("comparison").replaceChildren(...(comparisons ? comparisons.map(comparison) : words));
}

// Charts

/** Where numbers stand on a chart, from 0, the bottom, to 1: by logarithms where they are of one sign and very different. */
function scale(values) {
  const finite = values.filter(Number.isFinite);
  const sizes = finite.map(Math.abs).filter((size) => size > 0);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const [small, large] = [Math.min(...sizes), Math.max(...sizes)];
  const sign = high > -low ? 1 : -1;
  const against = Math.max(0, -sign * (sign > 0 ? low : high)); // the largest number of the other sign
  if (large / small > 2e3 && against < 1e-5 * large) {
    const floor = Math.max(Math.floor(Math.log10(small)), Math.ceil(Math.log10(large)) - 50);
    const top = Math.ceil(Math.log10(large));
    const at = (x) => (x * sign > 0 ? Math.max(0, (Math.log10(Math.abs(x)) - floor) / (top - floor)) : 0);
    const label = (power) =>
      `${sign < 0 ? "−" : ""}10${String(power).replace(/./g, (letter) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(letter)])}`;
    const place = sign > 0 ? at : (x) => 1 - at(x);
    const middle = Math.round((floor + top) / 2);
    const zero = finite.every((x) => x * sign > 0) ? label(floor) : against ? (sign > 0 ? "≤ 0" : "≥ 0") : "0";
    return {
      place,
      ticks: [
        [zero, place(0)],
        [label(middle), place(sign * 10 ** middle)],
        [label(top), place(sign * 10 ** top)],
      ],
    };
  }
  const range = high - low || 1;
  return {
    place: (x) => (x - low) / range,
    ticks: [...new Set([low, (low + high) / 2, high])].map((x) => [short(x), (x - low) / range]),
  };
}

/** Lines over `labels`, and a mark at the one that is looked at; `move(i)` sets it. */
function chart(title, labels, series, unit) {
  const [left, top, w, t] = [56, 10, 326, 150];
  const x = (i) => left + (labels.length > 1 ? (i / (labels.length - 1)) * w : w / 2);
  const { place, ticks } = scale(series.flatMap(({ values }) => values.map(number)));
  const y = (value) => top + t * (1 - place(value));
  const line = ({ values }, s) => {
    let command = "M";
    const points = values.map(number).map((value, i) => {
      if (!Number.isFinite(value)) {
        command = "M";
        return "";
      }
      const point = `${command}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      command = "L";
      return point;
    });
    return h("path", { d: points.join(""), ...pen(s, series.length) });
  };
  const now = h("line.now", { y1: top, y2: top + t });
  const dots = series.map((_, s) => h("circle", { class: `dot c${s % 5}`, r: 4.5 }));
  const label = (i, anchor) => h("text", { x: x(i), y: top + t + 17, "text-anchor": anchor }, String(labels[i]));
  const svg = h(
    "svg.chart",
    { viewBox: `0 0 ${left + w + 14} ${top + t + 24}`, width: 460, role: "img" },
    ticks.map(([text, share]) => [
      h("line.axis", { x1: left, x2: left + w, y1: top + t * (1 - share), y2: top + t * (1 - share) }),
      h("text", { x: left - 10, y: top + t * (1 - share) + 4, "text-anchor": "end" }, text),
    ]),
    label(0, "start"),
    labels.length > 1 ? label(labels.length - 1, "end") : null,
    h("text", { x: left + w / 2, y: top + t + 17, "text-anchor": "middle" }, unit),
    series.map(line),
    now,
    dots,
  );
  const move = (i) => {
    now.setAttribute("x1", x(i));
    now.setAttribute("x2", x(i));
    const texts = series.map(({ name, values }, s) => {
      const value = number(values[i]);
      dots[s].setAttribute("visibility", Number.isFinite(value) ? "visible" : "hidden");
      dots[s].setAttribute("cx", x(i));
      if (Number.isFinite(value)) dots[s].setAttribute("cy", y(value));
      return `${name} ${values[i]}`;
    });
    svg.setAttribute("aria-label", `${title} at ${unit} ${labels[i]}: ${texts.join("; ")}`);
  };
  return { svg, move };
}

/** How a line is drawn; earlier ones are thicker, so that they are seen below later ones on the same place. */
const pen = (s, count) => ({
  class: `series c${s % 5}`,
  "stroke-width": 1.6 + 1.1 * (count - 1 - s),
  "stroke-dasharray": s === 4 ? "2 3" : null,
});

/** A chart over a table of its series with their numbers, which is its key too. */
function charted(title, labels, series, unit, words) {
  const { svg, move } = chart(title, labels, series, unit);
  const cells = series.map(() => h("span.number"));
  const key = (s) =>
    h(
      "svg.key",
      { viewBox: "0 0 26 8", width: 26, "aria-hidden": "true" },
      h("path", { d: "M0 4H26", ...pen(s, series.length) }),
    );
  const rows = series.map(({ name }, s) => [[key(s), name], cells[s]]);
  const element = h(
    "figure",
    h("h3", title),
    svg,
    table(title, [["line"], ["value", true]], rows, { hidden: true }),
    note(words),
  );
  return {
    element,
    move: (i) => {
      move(i);
      series.forEach(({ values }, s) => {
        cells[s].textContent = short(values[i], 6);
        cells[s].classList.toggle("special", !Number.isFinite(number(values[i])));
      });
    },
  };
}

// Saturation

function renderSaturation() {
  const { saturation } = state.data;
  const { dtype, logits, positions, panels } = saturation;
  const parts = panels.map(({ title, series, note }) => charted(title, positions, series, "t", note));
  const output = h("output.number", { for: "position", role: "status" });
  const move = (i) => {
    state.position = i;
    const words = `t = ${positions[i]}, logits ${logits.replace("t", positions[i])} in ${dtype}`;
    output.textContent = words;
    slider.setAttribute("aria-valuetext", words);
    parts.forEach((part) => part.move(i));
  };
  const slider = h("input", {
    type: "range",
    id: "position",
    min: 0,
    max: positions.length - 1,
    value: state.position,
    oninput: () => move(Number(slider.value)),
  });
  body("saturation").replaceChildren(
    h(
      "div.row",
      h("label", { for: "position", class: "controls" }, "the growing logit"),
      h("span.controls", { style: "display:flex;flex:1" }, slider),
      output,
    ),
    h(
      "div.columns.pairs",
      parts.map((part) => part.element),
    ),
  );
  move(state.position);
}

// Training

const MARKS = [
  (x, y) => `M${x - 3.6} ${y}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z`,
  (x, y) => `M${x} ${y - 4.6}L${x + 4.4} ${y + 3.4}H${x - 4.4}z`,
  (x, y) => `M${x - 3.3} ${y - 3.3}h6.6v6.6h-6.6z`,
];
const PLACES = ["c1", "c0", "c2", "c3", "c4"];

/** The decision regions: for every class and level one path of squares. */
function regions({ size, classes }, codes) {
  const paths = new Map();
  for (let n = 0; n < codes.length; n++) {
    const code = codes.charCodeAt(n) - 48;
    const [row, column] = [size - 1 - Math.floor(n / size), n % size];
    paths.set(code, `${paths.get(code) ?? ""}M${column} ${row}h1v1h-1z`);
  }
  return [...paths].map(([code, d]) =>
    h("path", {
      class: `region ${PLACES[Math.floor(code / 8) % classes]}`,
      "fill-opacity": (0.08 + 0.06 * (code % 8)).toFixed(2),
      d,
      transform: `scale(${300 / size})`,
    }),
  );
}

function renderTraining(refusal) {
  clearInterval(state.timer);
  state.timer = null;
  const { replay, live } = state.data;
  const alert = h("p.alert", { role: "alert", hidden: !refusal }, refusal);
  const bar = live ? [h("div.row.controls", liveTraining()), alert] : [];
  if (!replay) return body("training").replaceChildren(...bar);
  const {
    frames,
    layers,
    extent: [west, east, south, north],
  } = replay;
  state.frame = Math.min(state.frame, frames.length - 1);

  const ground = h("g", { "shape-rendering": "crispEdges" });
  const points = replay.x.map(([x, y], i) =>
    h("path", {
      class: `dot ${PLACES[replay.y[i]]}`,
      d: MARKS[replay.y[i] % 3]((300 * (x - west)) / (east - west), (300 * (north - y)) / (north - south)),
    }),
  );
  const map = h("svg.map", { viewBox: "0 0 300 300", width: 440, role: "img" }, ground, points);
  const steps = frames.map((frame) => frame.step);
  const measures = [
    charted(
      "Loss and accuracy",
      steps,
      ["loss", "accuracy"].map((name) => ({ name, values: frames.map((frame) => frame[name]) })),
      "step",
    ),
    charted(
      "Norm of every layer's Jacobian, mean over the examples",
      steps,
      layers.map((name, i) => ({ name, values: frames.map((frame) => frame.norms[i]) })),
      "step",
    ),
  ];
  const words = h("output.number", { role: "status" });
  const show = (i) => {
    state.frame = i;
    const { step, loss, accuracy } = frames[i];
    words.textContent = `step ${step}, loss ${short(loss)}, accuracy ${short(accuracy)}`;
    ground.replaceChildren(...regions(replay, frames[i].regions));
    map.setAttribute(
      "aria-label",
      `Decision regions and ${replay.x.length} points of ${replay.classes} classes at step ${step}; accuracy ${short(accuracy)}`,
    );
    slider.value = i;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    back.disabled = i === 0;
    ahead.disabled = i === frames.length - 1;
    measures.forEach((part) => part.move(i));
  };
  const pause = () => {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = "Play";
  };
  const playing = () => {
    if (state.timer) return pause();
    if (state.frame === frames.length - 1) show(0);
    play.textContent = "Pause";
    state.timer = setInterval(() => (state.frame < frames.length - 1 ? show(state.frame + 1) : pause()), 350);
  };
  const go = (i) => {
    pause();
    show(i);
  };
  const play = button("Play", playing, { class: "main", "data-do": "play" });
  const back = button("Back", () => go(state.frame - 1), { "data-do": "back" });
  const ahead = button("Step", () => go(state.frame + 1), { "data-do": "step" });
  const slider = h("input", {
    type: "range",
    "aria-label": "Frame",
    min: 0,
    max: frames.length - 1,
    oninput: () => go(Number(slider.value)),
  });
  const replaying = h(
    "div.row.controls",
    play,
    back,
    ahead,
    button("Reset", () => go(0), { "data-do": "reset" }),
    slider,
  );
  body("training").replaceChildren(
    ...bar,
    h("p.model", replay.model),
    replaying,
    h(
      "div.columns",
      h("figure", map, h("figcaption", words, h("br"), replay.about)),
      measures.map((part) => part.element),
    ),
  );
  show(state.frame);
}

// Speed

function renderSpeed() {
  const { benchmarks } = state.data;
  body("speed").replaceChildren(
    ...(benchmarks?.length
      ? benchmarks.map(({ measured, columns, rows }) =>
          table(
            plain(measured),
            columns.map((name) => [plain(name)]),
            rows.map((row) => row.map(plain)),
          ),
        )
      : [h("p", "No measurements here yet; ", h("code", "python -m benchmarks run"), " makes them.")]),
  );
}

/** The tables come from a page in Markdown. */
const plain = (text) => text.replace(/[`*]/g, "");

// With JAX behind the page

/** The answer to a question to the server; its words where it refuses. */
async function ask(path, question) {
  const headers = { "Content-Type": "application/json", "X-Token": state.data.live.token };
  let answer;
  try {
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(question) });
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
  } catch (error) {
    throw answer ? error : new Error("The server does not answer; is `jaxnets explore` still running?");
  }
  return answer;
}

/** Runs a task once at a time: buttons of `element` are off and the element is busy meanwhile. */
async function once(name, element, task) {
  if (state.busy.has(name)) return;
  const buttons = [...element.querySelectorAll("button")];
  const were = buttons.map((other) => other.disabled);
  state.busy.add(name);
  element.setAttribute("aria-busy", "true");
  buttons.forEach((other) => (other.disabled = true));
  try {
    await task();
  } finally {
    state.busy.delete(name);
    element.removeAttribute("aria-busy");
    buttons.forEach((other, i) => (other.disabled = were[i]));
  }
}

function settings() {
  const { token, ...question } = state.data.live;
  return question;
}

function renderControls() {
  const { live } = state.data;
  one("#controls").hidden = !live;
  if (!live) return;
  const field = (name, label, attributes, kind) =>
    h(
      "label",
      { class: kind },
      label,
      h("input", { name, value: live[name] ?? "", autocomplete: "off", spellcheck: "false", ...attributes }),
    );
  const alert = h("p.alert", { id: "refusal", role: "alert", hidden: true });
  const form = h(
    "form",
    { novalidate: true, onsubmit: (event) => (event.preventDefault(), once("model", form, () => submit(form, alert))) },
    field("model", "model", { required: true }, "wide"),
    field("input", "input", { placeholder: "2 or 1x8x8" }),
    field("batch", "batch", { type: "number", min: 1 }),
    h(
      "label",
      "dtype",
      h(
        "select",
        { name: "dtype" },
        ["float32", "float64"].map((name) => h("option", { selected: name === live.dtype }, name)),
      ),
    ),
    field("seed", "seed", { type: "number" }),
    h("button.main", "Show"),
  );
  body("controls").replaceChildren(form, alert);
}

/** Asks for another model; what is shown stays until its answer is here. */
async function submit(form, alert) {
  const text = Object.fromEntries(new FormData(form));
  const question = { ...text, batch: Number(text.batch), seed: Number(text.seed) };
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  alert.hidden = true;
  let content;
  try {
    ({ content } = await ask("/model", question));
  } catch (error) {
    const named = ["input", "batch", "dtype", "seed"].find((name) => error.message.startsWith(name)) ?? "model";
    form.elements[named].setAttribute("aria-invalid", "true");
    form.elements[named].setAttribute("aria-describedby", "refusal");
    alert.textContent = error.message;
    alert.hidden = false;
    return;
  }
  state.data = { ...state.data, comparisons: null, replay: null, ...content, live: { ...state.data.live, ...question } };
  Object.assign(state, { trained: false, generation: state.generation + 1 });
  renderModel();
  fillComparisons(question);
}

async function fillComparisons(question) {
  const { generation } = state;
  const element = one("#comparison");
  element.setAttribute("aria-busy", "true");
  renderComparison();
  let refusal;
  try {
    const { comparisons } = await ask("/compare", question);
    if (generation === state.generation) state.data.comparisons = comparisons;
  } catch (error) {
    refusal = error.message;
  }
  if (generation !== state.generation) return;
  element.removeAttribute("aria-busy");
  renderComparison(refusal);
}

/** The buttons that train the model on the server, one or ten steps at a time. */
function liveTraining() {
  const train = async (action, steps) => {
    const { generation } = state;
    let refusal;
    await once("train", one("#training"), async () => {
      try {
        const { replay, frame } = await ask("/train", { ...settings(), action, steps });
        if (generation !== state.generation) return;
        if (replay) Object.assign(state, { trained: true, data: { ...state.data, replay } });
        else state.data.replay.frames.push(frame);
        state.frame = state.data.replay.frames.length - 1;
      } catch (error) {
        refusal = error.message;
      }
    });
    if (generation !== state.generation) return;
    renderTraining(refusal);
    one(`[data-live="${steps ?? "reset"}"]`)?.focus();
  };
  const { trained } = state;
  return [
    button("Train: one step", () => train("step", 1), { class: "main", "data-live": 1, disabled: !trained }),
    button("ten steps", () => train("step", 10), { "data-live": 10, disabled: !trained }),
    button(trained ? "start over" : "start", () => train("reset"), { "data-live": "reset" }),
  ];
}

// The page

function renderHead() {
  const { title, about } = state.data;
  const { model, ...rest } = about;
  document.title = `${title} · jaxnets`;
  one("h1").textContent = /^\w+$/.test(title) ? `The Jacobians of ${title}` : "The Jacobians of a network";
  one(".page-head .model").textContent = model;
  one(".about").replaceChildren(...Object.entries(rest).map(([term, text]) => h("div", h("dt", term), h("dd", text))));
}

/** All that tells of the model. */
function renderModel() {
  renderHead();
  renderGraph();
  choose(0);
  renderOrder();
  renderComparison();
  renderTraining();
}

function renderFrame() {
  const sections = [...document.querySelectorAll("main section")].filter(
    (section) => section.id !== "controls" || state.data.live,
  );
  one("nav ul").replaceChildren(
    ...sections.map((section) => h("li", h("a", { href: `#${section.id}` }, one("h2", section).textContent))),
  );
  const theme = one("#theme");
  const dark = (on) => theme.setAttribute("aria-pressed", String(on));
  dark(matchMedia("(prefers-color-scheme: dark)").matches);
  theme.addEventListener("click", () => {
    const on = theme.getAttribute("aria-pressed") !== "true";
    document.documentElement.dataset.theme = on ? "dark" : "light";
    dark(on);
  });
}

renderFrame();
renderControls();
renderModel();
renderSaturation();
renderSpeed();
if (state.data.live && !state.data.comparisons) fillComparisons(settings());
