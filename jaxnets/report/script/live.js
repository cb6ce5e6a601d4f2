// With JAX behind the page

/** The server's answer to a question. Throws an Error with the server's words if it refuses. */
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

/** Runs a task unless it is already running. Meanwhile `element` is busy and its buttons are disabled. */
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

/** Asks for another model. The page keeps showing the old one until the answer arrives. */
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

/** The buttons that train the model on the server, by one or ten steps. */
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
