// With JAX behind the page

/** The answer of the server to a question, or without one that of the page. Throws an Error with words if it is refused. */
async function ask(path, question) {
  if (!state.data.live) return trainByItself(question);
  const headers = { "Content-Type": "application/json", "X-Token": state.data.live.token };
  let answer;
  try {
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(question) });
    answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
  } catch (error) {
    throw answer ? error : new Error(say("The server does not answer; is “jaxnets explore” still running?"));
  }
  return answer;
}

/** Runs a task unless it is already running. Meanwhile `element` tells the time, and its buttons are disabled. */
async function once(name, element, task) {
  if (state.busy.has(name)) return;
  const buttons = [...element.querySelectorAll('button:not([data-live="run"])')]; // that one also ends what is running
  const were = buttons.map((other) => other.disabled);
  const began = Date.now();
  const time = h("span.note", { role: "timer" });
  const tell = () => (time.textContent = say("computing… {n} s", { n: Math.floor((Date.now() - began) / 1000) }));
  const timer = setInterval(tell, 250);
  tell();
  if (!state.running) element.append(time); // what goes on and on is seen
  state.busy.add(name);
  element.setAttribute("aria-busy", "true");
  buttons.forEach((other) => (other.disabled = true));
  try {
    await task();
  } finally {
    clearInterval(timer);
    time.remove();
    state.busy.delete(name);
    element.removeAttribute("aria-busy");
    buttons.forEach((other, i) => (other.disabled = were[i]));
    if (state.turning && !state.busy.size) changeLanguage();
  }
}

/** Asks once, takes the answer with `use` and shows it with `render(refusal)`, unless another model is shown by then. */
function request(element, path, question, use, render) {
  const { generation } = state;
  return once(path + generation, element, async () => {
    const answer = await ask(path, question).catch(({ message }) => ({ refusal: message }));
    if (generation !== state.generation) return;
    if (!answer.refusal) use(answer);
    render(answer.refusal && computed(answer.refusal));
  });
}

function settings() {
  const { token, ...question } = state.data.live ?? {};
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
    { novalidate: true, onsubmit: (event) => (event.preventDefault(), showModel()) },
    field("model", say("model"), { required: true }, "wide"),
    field("input", say("input"), { placeholder: say("2 or 1x8x8") }),
    field("batch", say("batch"), { type: "number", min: 1 }),
    h(
      "label",
      say("dtype"),
      h(
        "select",
        { name: "dtype" },
        ["float32", "float64"].map((name) => h("option", { selected: name === live.dtype }, name)),
      ),
    ),
    field("seed", say("seed"), { type: "number" }),
    h("button.main", say("Show")),
  );
  body("controls").replaceChildren(form, alert);
}

/** Shows the model that stands in the form, and returns whether that was possible. */
async function showModel() {
  const form = one("#controls form");
  const { generation } = state;
  await once("model", form, () => submit(form, one("#refusal")));
  return generation < state.generation;
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
    alert.textContent = computed(error.message);
    alert.hidden = false;
    return;
  }
  state.data = { ...state.data, comparisons: null, replay: null, ...content, live: { ...state.data.live, ...question } };
  Object.assign(state, { trained: false, running: false, backward: null, generation: state.generation + 1 });
  Object.assign(state, FIRST_MODULE);
  renderModel();
}
