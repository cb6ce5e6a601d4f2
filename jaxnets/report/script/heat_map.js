/** Radio buttons. `choices` are [value, label, disabled]. */
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

/** What a view of a Jacobian is called. */
const nameOfView = (view) =>
  ({ values: say("hand-written"), autodiff: say("autodiff"), difference: say("difference") })[view];

function renderPicture() {
  const { jacobians } = state.data.modules[state.module];
  const known = (view) => view === "values" || jacobians[state.jacobian][view] != null;
  const names = jacobians.map((j, i) => [i, j.argument]);
  const byArgument = radios(say("Jacobian by"), "argument", names, state.jacobian, (i) => {
    Object.assign(state, { jacobian: i, cell: [0, 0] });
    if (!known(state.view)) state.view = "values";
    renderPicture();
    one(`[name="argument"][value="${i}"]`).focus();
  });
  const views = ["values", "autodiff", "difference"].map((view) => [view, nameOfView(view), !known(view)]);
  const byView = radios(say("Show"), "view", views, state.view, (view) => {
    state.view = view;
    renderHeat();
  });
  one("#picture").replaceChildren(...(jacobians.length > 1 ? [byArgument] : []), byView, h("figure", { id: "heat" }), weightsNote() ?? "");
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

/** A colour from blue over nearly white to orange. It follows the square root, so that small numbers are visible. */
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
  const name = state.view === "difference" ? say("hand-written − autodiff") : nameOfView(state.view);
  const { svg, size, left, top } = drawHeat(j, rows, columns, (r, c) =>
    shown(r, c) ? colour(values[r][c], largest) : null,
  );
  const label = say("{name}, ∂y/∂{argument} of {module}, {rows} by {columns} cells; arrow keys read them", {
    ...{ name, argument: j.argument, module: module.name, rows, columns },
  });
  const attributes = { role: "application", "aria-roledescription": say("heat map"), "aria-label": label, tabindex: 0 };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);

  const readout = h("p.readout", { role: "status" });
  const cursor = one(".cursor", svg);
  const show = (...cell) => {
    const [r, c] = cell.map((n, axis) => Math.max(0, Math.min([rows, columns][axis] - 1, n)));
    state.cell = [r, c];
    cursor.setAttribute("x", left + c * size);
    cursor.setAttribute("y", top + r * size);
    const where = `∂${entry("y", r, j.output, j.example)}/∂${entry(j.argument, c, j.input, j.example)}`;
    readout.textContent = `${where} = ${shown(r, c) ? values[r][c] : say("0, zero by structure")}`;
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
  const [shape, whole] = [`${rows}×${columns}`, `${height}×${width}`];
  const part = shape === whole ? shape : say("first {shape} of {whole}", { shape, whole });
  const hatched = j.possible.some((row) => row.includes("0"));
  const which = j.example ? say("{part}, of example 0", { part }) : part;
  const caption = h("figcaption", say("{name}; {part}", { name, part: which }));
  const buttons = saving(svg, `∂y/∂${j.argument} ${module.name}, ${name}`);
  one("#heat").replaceChildren(svg, readout, legend(largest, hatched), caption, buttons);
  show(...state.cell);
  remember();
}

/** The picture: a square for each cell that has a colour from `fill`, on hatched ground. */
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

/** The scale of colours, and what a hatched cell means. */
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
        "aria-label": say("colours from −{x} to {x}", { x: short(largest) }),
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
          say("zero by structure"),
        )
      : null,
  );
}
