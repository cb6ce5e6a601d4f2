// The address: what is shown, so that a link shows it again

const asked = new URLSearchParams(location.search); // as it was when the page was loaded
const ignored = [];

/** Checks of texts in the address. */
const whole = (least, most) => (text) => /^\d{1,10}$/.test(text) && least <= Number(text) && Number(text) <= most;
const oneOf = (names) => (text) => names.includes(text);
const isShape = (text) => /^([1-9]\d{0,3}(x[1-9]\d{0,3}){0,7})?$/.test(text);
const isModel = (text) => text.trim() !== "" && text.length <= 2000;

const PROBLEM = {
  model: isModel,
  input: isShape,
  batch: whole(1, 64),
  dtype: oneOf(["float32", "float64"]),
  seed: whole(0, 2 ** 31 - 1),
};

/** What the address holds under a name, or null. What does not fit is ignored, and told later. */
function part(name, fits) {
  const text = asked.get(name);
  if (text === null || fits(text)) return text;
  ignored.push(`${name}=${text.length > 24 ? `${text.slice(0, 24)}…` : text}`);
  return null;
}

/** What is shown, by its names in the address; null or "" where it is what the page shows by itself. */
function shown() {
  const { data, module, jacobian, view, trained, frame } = state;
  const steps = data.replay?.frames.map(({ step }) => step) ?? [];
  const last = steps.length - 1;
  return {
    lang: state.language === PAGE_LANGUAGE ? null : state.language,
    ...Object.fromEntries(Object.keys(PROBLEM).map((name) => [name, data.live?.[name] ?? null])),
    module: module ? module + 1 : null,
    by: jacobian ? data.modules[module].jacobians[jacobian].argument : null,
    view: view === "values" ? null : view,
    backward: state.backward === null ? null : state.backward + 1,
    ...shownData(),
    train: leavesOutPoints() ? null : trained && steps[last] ? steps[last] : null,
    tour: state.stop === null ? null : state.stop + 1,
    step: frame && !(trained && frame === last) ? steps[frame] : null,
  };
}

/** The whole address of what is shown. */
function link() {
  const address = new URL(location);
  const parts = Object.entries(shown());
  for (const [name] of parts) address.searchParams.delete(name); // so that the order is the same, whatever came first
  for (const [name, value] of parts) {
    if (value !== null && value !== "") address.searchParams.set(name, value);
  }
  return address;
}

/** Writes what is shown into the address, a moment later: a browser takes only some changes in a second. */
function remember() {
  if (!state.restored) return;
  clearTimeout(state.writing);
  state.writing = setTimeout(() => history.replaceState(null, "", link()), 200);
}

/** Shows what the address asks for, and tells what of it was ignored. */
async function restore() {
  if (await restoreProblem()) {
    restoreModule();
    await restoreTraining();
    restoreTour();
  }
  state.restored = true;
  if (ignored.length) tell(say("Ignored in the address: {parts}", { parts: ignored.join(", ") }));
}

/** Whether the model that the address asks for is shown now. */
async function restoreProblem() {
  const { live } = state.data;
  const found = Object.entries(PROBLEM).map(([name, fits]) => [name, part(name, live ? fits : () => false)]);
  const given = Object.fromEntries(found.filter(([, text]) => text !== null));
  const wanted = given.model === undefined ? given : { input: "", ...given };
  if (Object.entries(wanted).every(([name, text]) => text === String(live[name]))) return true;
  for (const [name, text] of Object.entries(wanted)) one(`#controls [name="${name}"]`).value = text;
  return showModel();
}

function restoreModule() {
  const { modules } = state.data;
  const module = Number(part("module", whole(1, modules.length)) ?? 1) - 1;
  const { jacobians } = modules[module];
  const names = jacobians.map(({ argument }) => argument);
  const jacobian = Math.max(0, names.indexOf(part("by", oneOf(names))));
  const known = ["values", "autodiff", "difference"].filter((view) => view === "values" || jacobians[jacobian][view]);
  const view = part("view", oneOf(known)) ?? "values";
  choose(module);
  Object.assign(state, { jacobian, view });
  renderPicture();
  const step = part("backward", whole(1, modules.length + 1));
  if (step === null) return;
  state.backward = Number(step) - 1;
  renderGraph();
}

/** Trains as far as the address says, and shows the step that it names. */
async function restoreTraining() {
  const anew = restoreData();
  const total = part("train", trains() ? whole(1, MOST_STEPS) : () => false);
  const known = () => state.data.replay?.frames.map(({ step }) => String(step)) ?? [];
  const step = part("step", total ? whole(0, Number(total)) : oneOf(known()));
  if (total && Number(step) && !(await trainTo(Number(step)))) return;
  if (total && !(await trainTo(Number(total)))) return;
  const steps = known();
  if (step !== null) state.frame = steps.indexOf(step);
  renderTraining();
  if (anew) await showBeginning();
}

/** Whether it has been trained this far, part by part. Meanwhile the page tells how far it is. */
async function trainTo(total) {
  const { generation } = state;
  let done = state.trained ? state.data.replay.frames.at(-1).step : 0;
  state.goal = total;
  renderTraining();
  while (done < total && generation === state.generation) {
    await train(Math.min(state.data.live ? STEPS_AT_ONCE : STEPS_A_FRAME, total - done));
    await new Promise((resolve) => setTimeout(resolve)); // so that the browser shows how far it is
    if (!state.trained || state.data.replay.frames.at(-1).step === done) break; // refused
    done = state.data.replay.frames.at(-1).step;
  }
  state.goal = null;
  return done === total;
}

/** Puts the link into the clipboard, or shows it where the browser has none to give. */
async function copyLink() {
  const text = String(link());
  const left = { count: state.learned.points.length, most: MOST_IN_LINK };
  const without = leavesOutPoints() ? [" ", say("It leaves out your {count} points; at most {most} fit.", left)] : [];
  try {
    await navigator.clipboard.writeText(text);
    tell(say("The link is in the clipboard. It shows again what the page shows now."), ...without);
  } catch {
    tell(say("This link shows again what the page shows now:"), " ", h("code", text), ...without);
  }
}
