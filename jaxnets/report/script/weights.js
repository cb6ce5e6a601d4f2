// The weights that the modules show: those that the page was made with, or those of a step of its own training

const MOST_NUMBERS = 48; // of a row that the page holds
const DIGITS = 6; // of a number in a heat map

let made = null; // the modules and the backward pass that the page was made with

/** Shows modules and backward pass at the weights of the frame that is shown. */
function showWeights() {
  const { replay, engine, modules, backward } = state.data;
  if (!engine?.weights) return;
  const step = state.trained ? replay.frames[state.frame].step : 0;
  const weights = step ? ownTraining.kept.get(step) : null;
  if (!weights && state.weights === null) return;
  made ??= { modules, backward };
  state.weights = weights ? step : null;
  state.data = { ...state.data, ...(weights ? atWeights(weights, shownExamples()) : made) };
  if (state.view !== "values" && weights) state.view = "values";
  renderGraph();
  renderPicture();
}

/** Whether modules and pass can be shown for what is learned: whether it has the loss of the graph. */
function followsTraining() {
  const graph = modulesOf(state.data.diagram);
  return graph.at(-2).name === ownTraining.network.cost.name;
}

/** The examples that modules and pass are shown for, as many as in the graph: of what is learned, or the page's own. */
function shownExamples() {
  const { engine } = state.data;
  if (!followsTraining()) return engine;
  const { x, y } = ownTraining.data;
  const places = engine.x.map((_, b) => Math.floor((b * x.length) / engine.x.length));
  return { x: places.map((at) => x[at]), targets: places.map((at) => y[at]) };
}

/** Modules and backward pass at other weights, in the form in which the page holds them. */
function atWeights(weights, { x, targets }) {
  const { diagram } = state.data;
  const network = new Network(diagram, weights, x.map((row) => Float64Array.from(row)), targets);
  const values = network.allValues();
  const found = network.gradients(values);
  const [first] = found.states;
  const share = new Float64Array(network.count(values)).fill(1 / network.count(values));
  const few = (row) => [...row.slice(0, MOST_NUMBERS)];
  const modules = [...network.modules, network.mean];
  const backward = {
    rows: modules.map((module) => (module === network.mean ? [1] : few(first[module.item]))),
    parts: modules.map((module) => {
      if (module === network.mean) return [few(share)];
      return network.parts(module, first[module.item], values[0], targets[0]).map(few);
    }),
    gradients: Object.fromEntries(
      Object.keys(made.backward.gradients).map((label) => {
        const item = diagram.items.findIndex((one) => one.label === label);
        const all = network.isWeight(item) ? found.weights[item] : found.states.flatMap((one) => [...one[item]]);
        return [label, { values: few(all) }];
      }),
    ),
  };
  const shown = made.modules.map((module, m) => ({
    ...module,
    jacobians: module.jacobians.map((j, n) => {
      const columns = j.values[0].length;
      const row = (r) => {
        if (modules[m] === network.mean) return share;
        const size = values[0][modules[m].item].length;
        const b = Math.floor(r / size);
        return network.parts(modules[m], unit(size, r % size), values[b], targets[b])[n];
      };
      const corner = j.values.map((_, r) => [...row(r).slice(0, columns)].map((x) => Number(x.toPrecision(DIGITS))));
      return { ...j, values: corner, autodiff: null, difference: null };
    }),
  }));
  return { modules: shown, backward };
}

/** At which weights modules and backward pass are shown, where these are not the first ones. */
function weightsNote() {
  if (state.weights === null) return null;
  const at = { step: state.weights, count: state.data.engine.x.length };
  return followsTraining()
    ? note(say("With the weights after step {step} of the training, for {count} of its examples.", at))
    : note(say("With the weights after step {step} of the training.", at));
}
