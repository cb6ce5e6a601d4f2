// A guided tour along the lectures A, B and P

/** Shows a Jacobian of the first module with one of these names, or of the first module of all. */
function visit(names, argument = null, view = "values") {
  const { modules } = state.data;
  const module = Math.max(0, modules.findIndex(({ name }) => names.includes(name)));
  const { jacobians } = modules[module];
  choose(module);
  state.jacobian = Math.max(0, jacobians.findIndex((j) => j.argument === argument));
  if (view === "values" || jacobians[state.jacobian][view]) state.view = view;
  renderPicture();
}

/** Shows the backward pass as it comes to the first module from the end with one of these names; null leaves it. */
function passAt(names) {
  const backwards = state.data.modules.map(({ name }) => name).reverse();
  state.backward = names && Math.max(0, backwards.findIndex((name) => names.includes(name)));
  renderGraph();
}

function slideTo(t) {
  const places = state.data.saturation.positions.map((at, i) => [Math.abs(at - t), i]);
  [, state.position] = places.sort(([a], [b]) => a - b)[0];
  renderSaturation();
}

/** Shows the frame at a share of the training. */
function frameAt(share) {
  const { replay } = state.data;
  if (replay) state.frame = Math.round(share * (replay.frames.length - 1));
  renderTraining();
}

/** The stops: lecture, panel, what is set there, and what to look at. */
const stops = () => [
  {
    lecture: "A",
    at: "graph",
    set: () => passAt(null),
    words: say(
      "Blocks are modules, circles are variables, and the square at the end is the cost. Follow the values from x down to C.",
    ),
  },
  {
    lecture: "A",
    at: "graph",
    set: () => passAt(["mean"]),
    words: say("The gradient begins at the cost, where ∂C/∂C = 1. Look at how the average hands 1/P to each example."),
  },
  {
    lecture: "A",
    at: "graph",
    set: () => passAt(["linear", "conv", "conv2d"]),
    words: say(
      "A weighted sum sends the row back through its weights. The same row also gives the gradient by w and by b.",
    ),
  },
  {
    lecture: "A",
    at: "graph",
    set: () => passAt(["relu", "tanh", "sigmoid"]),
    words: say(
      "A non-linear function has a diagonal Jacobian: every entry is multiplied by its own slope. Where relu is flat, nothing comes through.",
    ),
  },
  {
    lecture: "A",
    at: "order",
    set: () => passAt(null),
    words: say(
      "The chain is a product of matrices whose inner dimensions cancel. Compare how many multiplications each order takes, and why backwards wins for one cost.",
    ),
  },
  {
    lecture: "B",
    at: "module",
    set: () => visit(["linear"], "w"),
    words: say("The Jacobian by the weights is nearly empty: y[i] depends on row i of w alone. The hatched cells are never stored."),
  },
  {
    lecture: "B",
    at: "module",
    set: () => visit(["log_softmax", "softmax"]),
    words: say("In the Jacobian of log_softmax every row sums to 0. Find the diagonal, and what each column subtracts."),
  },
  {
    lecture: "B",
    at: "saturation",
    set: () => slideTo(20),
    words: say("One logit has grown to 20, and float32 still holds the smaller probabilities. Read what log p₁ has lost in the naive formula."),
  },
  {
    lecture: "B",
    at: "saturation",
    set: () => slideTo(100),
    words: say("At 100 the naive formula overflows, and its line ends. LogSoftMax as one module keeps value and gradient."),
  },
  {
    lecture: "B",
    at: "comparison",
    set: () => {},
    words: say("Rules by hand can be wrong, so each is compared with autodiff and finite differences. Errors should be a few units in the last place."),
  },
  {
    lecture: "P",
    at: "training",
    set: () => frameAt(0),
    words: say("Before training the regions have nothing to do with the points. Guess where the boundaries will go."),
  },
  {
    lecture: "P",
    at: "training",
    set: () => frameAt(0.5),
    words: say("Halfway, the boundaries begin to bend around the arms. Press Play, and watch which norm grows first."),
  },
  {
    lecture: "P",
    at: "training",
    set: () => frameAt(1),
    words: say("At the end the loss is small and the boundaries are steep: the Jacobians of the layers have grown. Where is the network sure without any points nearby?"),
  },
];

/** Goes to a stop of the tour, from 0; null leaves it. */
function goToStop(n) {
  const all = stops();
  state.stop = n === null ? null : Math.max(0, Math.min(all.length - 1, n));
  if (n === null) passAt(null);
  else all[state.stop].set();
  renderTour();
  const to = n === null ? "#start-tour" : "#tour";
  one(to).focus({ preventScroll: true });
  if (n !== null) one(`#${all[state.stop].at}`).scrollIntoView();
  remember();
}

function renderTour() {
  const box = one("#tour");
  box.hidden = state.stop === null;
  one("#start-tour").disabled = !box.hidden;
  if (box.hidden) return;
  const all = stops();
  const { lecture, words } = all[state.stop];
  const last = all.length - 1;
  const title = say("Stop {n} of {total}, lecture {lecture}", { n: state.stop + 1, total: last + 1, lecture });
  const to = (label, n, attributes) => button(label, () => goToStop(n), attributes);
  box.setAttribute("aria-label", say("Guided tour"));
  box.replaceChildren(
    h("div", { "aria-live": "polite" }, h("h3", title), h("p", words)),
    h(
      "div.row",
      to(say("Previous stop"), state.stop - 1, { disabled: state.stop === 0 }),
      to(say("Next stop"), state.stop + 1, { class: "main", disabled: state.stop === last }),
      to(say("Leave the tour"), null),
    ),
  );
}

function tourKey(event) {
  const to = { ArrowRight: state.stop + 1, ArrowLeft: state.stop - 1, Escape: null };
  if (!(event.key in to)) return;
  event.preventDefault();
  goToStop(to[event.key]);
}

function restoreTour() {
  const n = part("tour", whole(1, stops().length));
  if (n !== null) goToStop(Number(n) - 1);
}
