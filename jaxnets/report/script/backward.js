// The backward pass, one module at a time

/** The arrow of the n-th Jacobian of a module: the item that it comes from, its name, and its sizes [outputs, inputs]. */
function arrowOf(module, n) {
  const { items, arrows } = state.data.diagram;
  const found = arrows.filter((arrow) => items[arrow.target].module === module && arrow.block)[n];
  const [, out, inp] = /·\[(\d+)×(\d+)\]$/.exec(found.gradient);
  return { item: found.source, sizes: [Number(out), Number(inp)] };
}

/** The name of a value of the graph, as its arrows have it. */
function valueName(item) {
  const { items } = state.data.diagram;
  if (isModule(items[item])) return `h${subscript(items[item].module + 1)}`;
  return shortNames(items).get(items[item].label) ?? items[item].label;
}

/** The factors from the cost to the output of a module, along its first arrow onwards each time. */
function factorsTo(module) {
  const { items, arrows } = state.data.diagram;
  const item = items.findIndex((one) => one.module === module);
  const onwards = arrows.filter((arrow) => arrow.source === item && arrow.block);
  if (!onwards.length) return { factors: [], several: false };
  const { target, gradient } = onwards[0];
  const before = factorsTo(items[target].module);
  const factor = `∂${valueName(target)}/∂${valueName(item)} ${/\[\d+×\d+\]$/.exec(gradient)[0]}`;
  return { factors: [...before.factors, factor], several: before.several || onwards.length > 1 };
}

const MOST_WORDS = 8; // numbers of a row that are written out

const written = (row, size) =>
  `[${row.slice(0, MOST_WORDS).map((x) => short(x)).join(", ")}${size > MOST_WORDS ? ", …" : ""}]`;

const CRISP = { "shape-rendering": "crispEdges" };

/** A matrix as coloured cells. */
function cells(label, rows) {
  const size = Math.max(6, Math.min(20, Math.floor(300 / rows[0].length)));
  const largest = Math.max(0, ...rows.flat().map(number).filter(Number.isFinite).map(Math.abs));
  const [width, height] = [rows[0].length * size, rows.length * size];
  const square = (x, r, c) => h("rect", { x: c * size, y: r * size, width: size, height: size, fill: colour(x, largest) });
  return h(
    "svg.cells",
    { viewBox: `0 0 ${width + 1} ${height + 1}`, width: width + 1, role: "img", "aria-label": label, ...CRISP },
    rows.map((row, r) => row.map((x, c) => square(x, r, c))),
    h("rect.frame", { x: 0.5, y: 0.5, width, height }),
  );
}

/** One product of the pass: the row that comes in, times a Jacobian, is the row that goes out. */
function product(module, n) {
  const { rows, parts } = state.data.backward;
  const j = state.data.modules[module].jacobians[n];
  const { item, sizes } = arrowOf(module, n);
  const [out, inp] = sizes;
  const [y, x] = [`h${subscript(module + 1)}`, valueName(item)];
  const held = j.values.slice(0, out).map((row) => row.slice(0, inp));
  const whole = held.length === out && held[0].length === inp;
  const line = (name, size, numbers) => [
    h("p.formula.small", `${name} `, h("span.math.quiet", `[1×${size}]`)),
    cells(`${name} = ${written(numbers, size)}`, [numbers]),
    h("p.math", `= ${written(numbers, size)}`),
  ];
  const shape = `${held.length}×${held[0].length}`;
  return h(
    "div.jacobian",
    h("p.formula", `∂C/∂${x} = ∂C/∂${y} · ∂${y}/∂${x}`),
    h("p.math.quiet", `[1×${inp}] = [1×${out}]·[${out}×${inp}]`),
    line(`∂C/∂${y}`, out, rows[module].slice(0, out)),
    h("p.formula.small", `∂${y}/∂${x} `, h("span.math.quiet", `[${out}×${inp}]`)),
    cells(`∂${y}/∂${x}, ${out}×${inp}`, held),
    whole ? null : note(say("The page holds the first {shape} of {whole}.", { shape, whole: `${out}×${inp}` })),
    line(`∂C/∂${x}`, inp, parts[module][n].slice(0, inp)),
  );
}

/** What has arrived at the inputs and the weights, and how far it is from autodiff. */
function arrived() {
  const { items } = state.data.diagram;
  const compared = state.weights === null;
  const rows = items.flatMap((item, i) => {
    const found = state.data.backward.gradients[item.label];
    if (isModule(item) || !found) return [];
    const count = item.shape.reduce((a, b) => a * b, 1);
    const name = h("code", `∂C/∂${valueName(i)}`, h("small", `[${item.shape}]`));
    const difference = compared ? [short(found.difference, 2)] : [];
    return [[name, h("span.number", written(found.values, count)), ...difference]];
  });
  const heads = [[say("by")], [say("first numbers")], ...(compared ? [[say("largest difference to jax.grad"), true]] : [])];
  return table(say("The gradient, from all examples"), heads, rows);
}

/** Goes to a step of the pass: 0 is the last module, and null leaves it. */
function goBackwards(step) {
  state.backward = step === null ? null : Math.max(0, Math.min(state.data.modules.length, step));
  const { pass } = document.activeElement.dataset; // the button that was pressed
  renderGraph();
  const again = pass && one(`[data-pass="${pass}"]:enabled`);
  (again || one("#pass") || one("#backward")).focus({ preventScroll: true });
  one("#graph .now")?.scrollIntoView({ block: "nearest" });
  remember();
}

/** The button that begins the pass. */
const backwardButton = () =>
  h(
    "div.row.controls",
    button(say("Backward pass, step by step"), () => goBackwards(0), { id: "backward", class: "main" }),
  );

/** The step of the pass beside the graph of gradients. */
function backwardStep() {
  const { modules } = state.data;
  const step = state.backward;
  const module = modules.length - 1 - step;
  const { factors, several } = factorsTo(Math.max(0, module));
  const at = { n: step + 1, total: modules.length + 1, name: modules[module]?.name };
  const keys = (event) => {
    const to = { ArrowRight: step + 1, ArrowDown: step + 1, ArrowLeft: step - 1, ArrowUp: step - 1, Escape: null };
    if (!(event.key in to)) return;
    event.preventDefault();
    goBackwards(to[event.key]);
  };
  const title = module < 0 ? say("Step {n} of {total}: the end", at) : say("Step {n} of {total}: {name}", at);
  return h(
    "div.pass",
    { id: "pass", role: "group", tabindex: -1, "aria-label": title, onkeydown: keys },
    h("h3", { "aria-live": "polite" }, title),
    h(
      "div.row.controls",
      button(say("Previous step"), () => goBackwards(step - 1), { "data-pass": "back", disabled: step === 0 }),
      button(say("Next step"), () => goBackwards(step + 1), {
        class: "main",
        "data-pass": "next",
        disabled: module < 0,
      }),
      button(say("Leave the pass"), () => goBackwards(null)),
      h("span.note", say("or arrow keys")),
    ),
    module < 0
      ? arrived()
      : [
          note(
            step
              ? say("The first example. A row comes in, is multiplied by the module's Jacobians, and goes on.")
              : say("The pass begins with ∂C/∂C = 1. It follows the first example of the batch."),
          ),
          factors.length
            ? [
                h("p.quiet", say("The chain so far, from C to h{n}", { n: subscript(module + 1) })),
                h(
                  "ol.chain",
                  factors.map((factor) => h("li", factor)),
                ),
                several ? note(say("Where arrows meet, this is one way of several; their rows are added up.")) : null,
              ]
            : null,
          modules[module].jacobians.map((_, n) => product(module, n)),
        ],
  );
}

/** Marks in a graph of gradients where the pass is and where it has been. */
function markPass(svg) {
  const module = state.data.modules.length - 1 - state.backward;
  for (const part of svg.querySelectorAll("[data-of], [data-module]")) {
    const of = Number(part.dataset.of ?? part.dataset.module);
    part.classList.toggle("now", of === module);
    part.classList.toggle("ahead", of < module);
  }
}
