// The graph

const TIP_SIZE = { markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse" };
const TIP = { viewBox: "0 0 8 8", refX: 7, refY: 4, ...TIP_SIZE, orient: "auto-start-reverse" };

const isModule = (item) => item.module != null;

/** Where everything stands, in pixels. Weights are stacked to the left of the block that uses them. */
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
  // Long arrows run in lanes on the right. Each takes the first lane that is free between its rows.
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

/** The path of an arrow in the direction of the values, and where its words stand. */
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

/** The block diagram. With `back` it shows the gradients, at the same places. */
function drawGraph(diagram, back) {
  const place = layout(diagram);
  const tip = back ? "tip-back" : "tip";
  const names = place.nodes.filter(({ item }) => isModule(item)).map(({ name }) => name);
  const svg = h(
    "svg.graph",
    {
      role: "group",
      "aria-label": `${back ? say("Gradients, through") : say("Values, through")} ${names.join(", ")}`,
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
    const of = link.block && link.to.item.module; // the module whose Jacobian this is
    svg.append(
      h("path.arrow", { d, "data-of": of, [back ? "marker-start" : "marker-end"]: `url(#${tip})` }),
      h("text", { x, y: y + first, "data-of": of }, h("tspan.value", value), h("tspan.math", ` ${dims}`)),
      h("text.math", { x, y: y + second, "data-of": of }, product),
    );
  }
  for (const node of place.nodes) svg.append(drawNode(node, place.links));
  return svg;
}

function drawNode(node, links) {
  const { item, x, y, width, height } = node;
  const round = item.kind === "cost" ? 0 : item.kind === "function" ? 9 : height / 2;
  const into = links.filter((link) => link.to === node && link.block);
  const parts = into.map(({ block: { argument, dims }, from }) =>
    say("{argument} from {name} {dims}", { argument, name: from.name, dims }),
  );
  const shown = say("{label}, shape [{shape}]", { label: item.label, shape: item.shape });
  const words = parts.length ? `${shown}${say("; Jacobians by ")}${parts.join(say(", by "))}` : shown;
  const shape = [
    h("title", words),
    h("rect.block", { x: x - width / 2, y: y - height / 2, width, height, rx: round }),
    h("text.name", { x, y: y + 4 }, node.label),
  ];
  if (!isModule(item)) return h("g", { class: item.kind, role: "img", "aria-label": words }, shape);
  const named = { n: item.module + 1, words };
  return h(
    "g",
    {
      class: item.kind,
      role: "button",
      "aria-label": item.kind === "cost" ? say("Cost {n}: {words}", named) : say("Module {n}: {words}", named),
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
  const side = (title, back) => {
    const svg = drawGraph(diagram, back);
    return h("figure", h("h3", title), scrolls(title, svg), saving(svg, title));
  };
  const gradients = side(say("Gradients"), true);
  const stepwise = state.backward !== null;
  if (stepwise) markPass(gradients);
  body("graph").replaceChildren(
    stepwise ? "" : backwardButton(),
    weightsNote() ?? "",
    h("div.columns", stepwise ? backwardStep() : side(say("Values and Jacobians"), false), gradients),
    h("p.note", computed(state.data.note)),
  );
}

/** Shows a module. `go` also scrolls the window to it. */
function choose(module, go = false) {
  Object.assign(state, { ...FIRST_MODULE, module });
  for (const other of document.querySelectorAll("[data-module]")) {
    const chosen = Number(other.dataset.module) === module;
    other.setAttribute("aria-pressed", String(chosen));
    other.setAttribute("tabindex", chosen ? 0 : -1);
  }
  renderModule();
  if (go) one("#module").scrollIntoView();
}
