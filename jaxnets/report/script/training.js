// Training: by the server behind the page, or by the page itself

const MOST_STEPS = 2000; // of a training that goes on by itself, or that a link asks for
const STEPS_AT_ONCE = 50; // for one answer
const STEPS_A_FRAME = 10; // of a training that goes on by itself
const PAUSE = 60; // milliseconds between two of its frames

/** Whether the page can train a network: with a server behind it, or by itself. */
const trains = () => Boolean(state.data.live || state.data.engine?.weights);

/** The settings of a training, its buttons, and its replay. */
function renderTraining(refusal) {
  const { replay, engine } = state.data;
  const words = { goal: state.goal, done: state.trained ? replay.frames.at(-1).step : 0 };
  const reason = engine?.reason;
  const shown = `${state.running ? "running" : "still"} ${state.language}`;
  const kept = one(`#training .row[data-shown="${shown}"]`);
  const row = kept ?? h("div.row.controls", { "data-shown": shown }, trainingButtons(), h("span.playback"));
  const below = [
    reason ? note(say("This page cannot train the network by itself: {reason}.", { reason: computed(reason) })) : "",
    refusal ? h("p.alert", { role: "alert" }, refusal) : "",
    state.goal ? note(say("Training again, as the address asks: step {done} of {goal}.", words)) : "",
    h("div", { id: "replay" }),
  ];
  if (kept) {
    // A press of a button also leaves the field above it: the button must stay, or the press would be lost.
    for (const other of [...kept.parentElement.childNodes]) if (other !== kept) other.remove();
    kept.before(trains() ? dataChoice() : "");
    kept.after(...below);
  } else body("training").replaceChildren(trains() ? dataChoice() : "", row, ...below);
  renderReplay();
}

/**
 * Asks for some steps of the training, or for its beginning, and shows the answer with `render(refusal)`. An answer about
 * what is no longer learned is dropped.
 */
async function askTraining(steps, render) {
  const { learned } = state;
  const use = ({ replay, frame }) => {
    if (learned !== state.learned) return;
    if (replay) Object.assign(state, { trained: true, data: { ...state.data, replay } });
    else state.data.replay.frames.push(frame);
    state.frame = state.data.replay.frames.length - 1;
  };
  const question = { ...settings(), ...dataSettings(), action: state.trained && steps ? "step" : "reset", steps };
  const show = (refusal) => learned === state.learned && render(refusal);
  await request(one("#training .row"), "/train", question, use, show);
  if (learned !== state.learned) await showBeginning();
}

/** Trains some steps, or starts over, and returns whether that was not refused. The first call begins. */
async function train(steps) {
  let goesOn = true;
  await askTraining(steps, (refusal) => {
    goesOn = !refusal;
    if (refusal) state.running = false;
    if (state.running) renderReplay();
    else renderTraining(refusal);
  });
  return goesOn;
}

/** Shows what is to be learned, and what the network makes of it before the first step, where nothing is shown yet. */
async function showBeginning() {
  const { data, points } = state.learned;
  if (!trains() || state.data.replay || (data === "points" && points.length < 2)) return;
  await askTraining(undefined, (refusal) => {
    if (refusal) one("#replay").before(h("p.alert", { role: "alert" }, refusal));
    else renderReplay(); // what is chosen and typed above it stays as it is
  });
}

/** Trains on and on, until it is told to stop, and shows a frame now and then. The buttons stay where they are. */
async function trainOn() {
  if (state.running) return void (state.running = false);
  if (goesToRefused()) return;
  const { generation, learned } = state;
  const goesOn = () => state.running && generation === state.generation && learned === state.learned;
  const steps = () => (state.trained ? state.data.replay.frames.at(-1).step : 0);
  state.running = true;
  renderTraining();
  one('[data-live="run"]').focus({ preventScroll: true });
  while (goesOn() && steps() < MOST_STEPS) {
    if (!(await train(Math.min(STEPS_A_FRAME, MOST_STEPS - steps())))) return;
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  if (state.generation !== generation || state.learned !== learned) return; // something else is shown by now
  state.running = false;
  renderTraining();
  one('[data-live="run"]').focus({ preventScroll: true });
}

/** Whether a field holds a text that is refused: then it gets the focus, and nothing is trained. */
function goesToRefused() {
  const field = one('#training [aria-invalid="true"]');
  field?.focus();
  return Boolean(field);
}

/** The buttons that train, if the page can. */
function trainingButtons() {
  if (!trains()) return [];
  const press = (label, steps, attributes) => {
    const name = steps ?? "reset";
    const pressed = async () => {
      if (goesToRefused()) return;
      await train(steps);
      one(`[data-live="${name}"]`).focus();
    };
    return button(label, pressed, { "data-live": name, disabled: state.running, ...attributes });
  };
  return [
    button(state.running ? say("Stop") : say("Train"), trainOn, { "data-live": "run", class: "main" }),
    press(say("Train 1 step"), 1),
    press(say("Train 10 steps"), 10),
    press(say("Start over")),
  ];
}
