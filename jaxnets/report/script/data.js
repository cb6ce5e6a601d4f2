// What a training learns from

const MOST_IN_LINK = 60; // points
const DRAWS = 5; // seeds of the points
const FIRST_DATA = state.data.replay?.data ?? "spiral"; // what the page shows by itself
const FUNCTIONS = ["sin", "cos", "abs", "step", "x²", "x³"];

/** The names of data sets, and how the page calls them. */
const dataNames = () => ({
  spiral: say("spiral"),
  circles: say("circles"),
  moons: say("moons"),
  xor: "XOR",
  function: say("a function"),
  points: say("own points"),
});

/** The fields of a question to the server that tell what is learned, and how. What it takes by itself is left out. */
function dataSettings() {
  const { data, function: name, points } = state.learned;
  const descent = descentSettings();
  if (data === "function") return { data, function: name, ...descent };
  if (data === "points") return { data, points, ...descent };
  const { draw } = state.learned;
  return { ...(data !== "spiral" && { data }), ...(draw && { draw }), ...descent };
}

/** Learns something else, and shows how that begins; but points, which are drawn one after another, wait for the training. */
function learn(change) {
  begin(change);
  if (!change.points) showBeginning();
}

/** Learns something else from now on: the next step is the first one. */
function begin(change) {
  Object.assign(state, { learned: { ...state.learned, ...change }, refused: {} });
  Object.assign(state, { trained: false, running: false, frame: 0, data: { ...state.data, replay: null } });
  showWeights();
  renderTraining();
}

/** The choice of data above the training, with what the chosen kind needs. */
function dataChoice() {
  const { data } = state.learned;
  const change = ({ target }) => {
    learn({ data: target.value });
    one("#training select").focus();
  };
  const kind = choice(say("data"), "data", Object.entries(dataNames()), data, change);
  const beside = { function: functionChoice, points: () => [] }[data]?.() ?? drawChoice();
  return h("div.learned.controls", kind, beside, descentChoice(), data === "points" ? ownPoints() : []);
}

/** A choice among several. */
const choice = (label, name, options, chosen, change) =>
  h(
    "label",
    label,
    h(
      "select",
      { name, onchange: change },
      options.map(([value, words]) => h("option", { value, selected: value === chosen }, words)),
    ),
  );

/** The choice of the seed with which points are drawn. */
const drawChoice = () =>
  choice(
    say("seed of the points"),
    "draw",
    Array.from({ length: DRAWS }, (_, n) => [n, n]),
    state.learned.draw,
    ({ target }) => {
      learn({ draw: Number(target.value) });
      one('#training [name="draw"]').focus();
    },
  );

/** A field to type in, with an alert. `read` gives what a text stands for, or null; then `refusal(text)` says what is expected. */
function typedChoice(label, name, attributes, read, refusal) {
  const text = state.refused[name];
  const wrong = text !== undefined;
  const id = `refused-${name}`;
  const change = ({ target }) => {
    const found = read(target.value);
    if (found !== null) return learn({ [name]: found });
    Object.assign(state, { refused: { ...state.refused, [name]: target.value }, running: false });
    renderTraining();
    one(`#training [name="${name}"]`).focus();
  };
  const told = wrong && { "aria-invalid": "true", "aria-describedby": id };
  const value = text ?? state.learned[name];
  return [
    h("label", label, h("input", { name, value, autocomplete: "off", onchange: change, ...attributes, ...told })),
    wrong ? h("p.alert", { id, role: "alert" }, refusal(text)) : [],
  ];
}

function functionChoice() {
  const read = (text) => {
    const name = text.trim().toLowerCase().replace("^2", "²").replace("^3", "³");
    return FUNCTIONS.includes(name) ? name : null;
  };
  const refusal = (name) => say("Unknown function {name}; known: {names}", { name, names: FUNCTIONS.join(", ") });
  return [
    typedChoice(say("function"), "function", { list: "functions" }, read, refusal),
    h(
      "datalist",
      { id: "functions" },
      FUNCTIONS.map((value) => h("option", { value })),
    ),
  ];
}

/** A pad to draw on, from −1 to 1, with undo, clear and a file to load. */
function ownPoints() {
  const { points, label } = state.learned;
  const pixel = (share) => 150 + (150 * share) / 1.1;
  const drawn = points.map(([x, y, label]) => mark(label - 1, pixel(x), pixel(-y)));
  const words = say("Points: {count}. A click draws one, or arrow keys and Enter; the keys 1 to 5 choose its class", {
    count: points.length,
  });
  const here = h("path.here", { visibility: "hidden" });
  const readout = h("output.number", { role: "status" });
  const pad = h(
    "svg.pad",
    { viewBox: "0 0 300 300", width: 300, role: "application", tabindex: 0, "aria-label": words },
    h("rect.frame", { width: 300, height: 300 }),
    h("path.axis", { d: "M150 0V300M0 150H300" }),
    drawn,
    here,
  );
  const change = (next) => {
    learn({ points: next });
    one(".pad").focus({ preventScroll: true });
  };
  const draw = (x, y) => points.length < MOST_POINTS && change([...points, [x, y, state.learned.label]]);
  const move = (x, y) => {
    const [to, up] = [x, y].map((place) => Math.max(-1, Math.min(1, Number(place.toFixed(2)))));
    state.pad = [to, up];
    here.setAttribute("d", `M${pixel(to) - 7} ${pixel(-up)}h14m-7 -7v14`);
    here.setAttribute("visibility", "visible");
    readout.textContent = `x1 = ${to}, x2 = ${up}`;
  };
  pad.addEventListener("click", (event) => {
    const box = pad.getBoundingClientRect();
    const place = (share) => Number((1.1 * (2 * share - 1)).toFixed(2));
    draw(place((event.clientX - box.left) / box.width), -place((event.clientY - box.top) / box.height));
  });
  pad.addEventListener("keydown", (event) => {
    const [x, y] = state.pad;
    const near = { ArrowLeft: [x - 0.1, y], ArrowRight: [x + 0.1, y], ArrowUp: [x, y + 0.1], ArrowDown: [x, y - 0.1] };
    if (near[event.key]) move(...near[event.key]);
    else if (event.key === "Enter") draw(x, y);
    else if (/^[1-5]$/.test(event.key)) {
      state.learned.label = Number(event.key);
      one(`[name="label"][value="${event.key}"]`).checked = true;
    } else return;
    event.preventDefault();
  });
  const classes = [1, 2, 3, 4, 5].map((n) => [n, n]);
  const undo = button(say("Undo"), () => change(points.slice(0, -1)), { disabled: !points.length });
  const clear = button(say("Clear"), () => change([]), { disabled: !points.length });
  const refusal = h("p.alert", { role: "alert", hidden: true });
  const file = h("input", { type: "file", name: "csv", accept: ".csv,.tsv,.txt,text/csv" });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    const { points: loaded, problem } = readPoints(await chosen.text());
    file.value = "";
    if (loaded) return change(loaded);
    refusal.textContent = problem;
    refusal.hidden = false;
  });
  return h(
    "div.own",
    pad,
    h(
      "div",
      radios(say("class"), "label", classes, label, (n) => (state.learned.label = n)),
      note(words),
      readout,
      h("div.buttons", undo, clear),
      h("label.file", say("CSV with the first line {head}", { head: HEAD }), file),
      refusal,
    ),
  );
}

/** What is learned, for the address; too many points are left out. */
function shownData() {
  const { data, draw, function: name, points } = state.learned;
  const few = data === "points" && points.length && points.length <= MOST_IN_LINK;
  return {
    data: data === FIRST_DATA ? null : data,
    draw: (!["function", "points"].includes(data) && draw) || null,
    ...shownDescent(),
    function: data === "function" ? name : null,
    points: few ? points.map((point) => point.join("_")).join("*") : null,
  };
}

/** Whether the link leaves out the points that the training learns from. */
const leavesOutPoints = () => state.learned.data === "points" && state.learned.points.length > MOST_IN_LINK;

/** Learns what the address asks for, and returns whether that is something else. */
function restoreData() {
  const fits = (check) => (trains() ? check : () => false);
  const data = part("data", fits(oneOf(Object.keys(dataNames()))));
  const name = part("function", fits(oneOf(FUNCTIONS)));
  const number = String.raw`-?\d{1,7}(\.\d{1,6})?`;
  const points = part("points", fits(
    (text) => new RegExp(`^${number}_${number}_[1-5](\\*${number}_${number}_[1-5]){0,${MOST_IN_LINK - 1}}$`).test(text),
  ));
  const found = points?.split("*").map((point) => point.split("_").map(Number));
  const draw = part("draw", fits(whole(0, DRAWS - 1)));
  const change = {
    ...(data && { data }),
    ...(name && { function: name }),
    ...(found && { points: found }),
    ...(draw && { draw: Number(draw) }),
    ...restoredDescent(fits),
  };
  const differs = ([key, value]) => String(value) !== String(state.learned[key]);
  const anew = Object.entries(change).some(differs);
  if (anew) begin(change);
  return anew;
}
