// A training that the page computes by itself: the answers that a server gives elsewhere

const SIZE = 40; // cells along a side of the map of regions
const LEVELS = 8; // shades of a colour in it
const CURVE = 121; // points of the curve of a network of one number
const VALUES = 41; // of a function
const FUNCTION = {
  sin: (x) => Math.sin(Math.PI * x),
  cos: (x) => Math.cos(Math.PI * x),
  abs: Math.abs,
  step: (x) => (x < 0 ? 0 : 1),
  "x²": (x) => x ** 2,
  "x³": (x) => x ** 3,
};
const DESCENT = { adam: "Adam", sgd: "gradient descent", momentum: "gradient descent with momentum 0.9" };

const evenly = (from, to, count) => Array.from({ length: count }, (_, n) => from + (n * (to - from)) / (count - 1));
const largestAt = (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0);

/** What is learned: its name, inputs and targets, and the number of classes, or null for numbers. */
function learnedData({ data = "spiral", function: name = "sin", points = [], draw = 0 }) {
  if (data === "function") {
    const x = evenly(-1, 1, VALUES);
    const y = x.map((at) => Float64Array.of(FUNCTION[name](at)));
    return { name: `the function ${name}`, classes: null, x: x.map((at) => Float64Array.of(at)), y };
  }
  if (data === "points") {
    if (points.length < 2) throw new Error("points: draw or load at least 2");
    const y = points.map(([, , label]) => label - 1);
    return { name: "points of one's own", classes: Math.max(...y) + 1, x: points.map((p) => Float64Array.of(p[0], p[1])), y };
  }
  const set = state.data.engine.sets[data];
  const at = set.draws[draw];
  const y = [...set.labels].map(Number);
  return { ...set, x: y.map((_, i) => Float64Array.of(at[2 * i] / 1e4, at[2 * i + 1] / 1e4)), y };
}

/** West, east, south and north of the picture: a square with the pad and all points, or for a function its values. */
function extentOf({ classes, x, y }) {
  const range = (numbers, ...more) => [Math.min(...numbers, ...more), Math.max(...numbers, ...more)];
  if (classes === null) {
    const [low, high] = range(y.map(([value]) => value));
    return [-1, 1, low - 0.25 * (high - low), high + 0.25 * (high - low)];
  }
  const sides = [0, 1].map((axis) => range(x.map((point) => point[axis]), -1, 1));
  const half = (1.1 * Math.max(...sides.map(([low, high]) => high - low))) / 2;
  return sides.flatMap(([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half]);
}

/** Throws an Error unless a network with these inputs and outputs can learn this. */
function checkFit({ name, classes }, inputs, outputs) {
  const count = Math.max(2, classes);
  const fits = classes === null ? inputs === "1" && outputs === 1 : inputs === "2" && outputs >= count;
  const known = { inputs, outputs, name: computed(name), count };
  if (fits) return;
  if (classes === null) {
    throw new Error(say("The model maps [{inputs}] to [{outputs}]; to learn {name} it must map [1] to [1].", known));
  }
  throw new Error(
    say("The model maps [{inputs}] to [{outputs}]; to learn {name} it must map [2] to [{count}] log-probabilities.", known),
  );
}

/** The weights of the page's model by item, as it was made with them. */
const firstWeights = () =>
  Object.fromEntries(
    state.data.diagram.items.flatMap(({ kind, label }, item) =>
      kind === "weight" ? [[item, Float64Array.from(state.data.engine.weights[label])]] : [],
    ),
  );

class OwnTraining {
  constructor(question) {
    const { optimizer = "adam", rate = RATES[optimizer] } = question;
    Object.assign(this, { optimizer, rate, data: learnedData(question), steps: 0, memories: {}, kept: new Map() });
    const { diagram, engine } = state.data;
    const { x, y, classes } = this.data;
    this.network = new Network(diagram, firstWeights(), x, y, classes === null ? "squared_error" : "nll");
    checkFit(this.data, engine.shape.join(), this.network.items[this.network.output].shape.slice(1).reduce((a, b) => a * b));
    this.extent = extentOf(this.data);
    const [west, east, south, north] = this.extent;
    this.grid =
      classes === null
        ? evenly(west, east, CURVE).map((at) => Float64Array.of(at))
        : evenly(south, north, SIZE).flatMap((up) => evenly(west, east, SIZE).map((at) => Float64Array.of(at, up)));
  }

  step(count) {
    for (let n = 0; n < count; n++) descend(this.network, this.optimizer, this.rate, this.memories);
    this.steps += count;
    return this.frame();
  }

  frame() {
    const { network, data, steps } = this;
    this.kept.set(steps, { ...network.weights });
    const values = network.allValues();
    const norms = network.modules.slice(0, -1).flatMap((module) => network.norms(module, values));
    const found = { step: steps, loss: network.loss(values), norms };
    const grid = this.grid.map((x) => network.predict(x));
    if (data.classes === null) return { ...found, curve: grid.map(([y]) => y) };
    const right = values.filter((one, b) => largestAt(one[network.output]) === data.y[b]);
    return { ...found, accuracy: right.length / values.length, regions: grid.map(regionCode).join("") };
  }

  replay() {
    const { network, data, extent, optimizer, rate } = this;
    const about = `${data.name}, ${data.x.length} points; ${DESCENT[optimizer]}, learning rate ${rate}, all points in every step`;
    return {
      model: state.data.engine.model,
      about,
      x: data.x.map((x, b) => (data.classes === null ? [...x, ...data.y[b]] : [...x])),
      y: data.classes === null ? data.y.map(([y]) => y) : data.y,
      extent,
      size: SIZE,
      classes: data.classes && network.predict(this.grid[0]).length,
      layers: layerNames(network),
      frames: [this.frame()],
    };
  }
}

/** A character for the class that is most probable, and for how sure the network is of it. */
function regionCode(logarithms) {
  const label = largestAt(logarithms);
  const sure = (Math.exp(logarithms[label]) - 1 / logarithms.length) / (1 - 1 / logarithms.length);
  const level = Math.max(0, Math.min(LEVELS - 1, Math.floor((Number.isNaN(sure) ? 0 : sure) * LEVELS)));
  return String.fromCharCode(48 + LEVELS * label + level);
}

/** A name for each Jacobian by a value: that of its module, with a number where there are several. */
function layerNames(network) {
  const count = {};
  return network.modules.slice(0, -1).flatMap(({ name, inputs }) =>
    inputs.filter(({ item }) => !network.isWeight(item)).map(() => {
      count[name] = (count[name] ?? 0) + 1;
      return count[name] > 1 ? `${name} ${count[name]}` : name;
    }),
  );
}

let ownTraining = null;

/** Some steps of a training. Where it begins, as asked for or by itself, the answer is a whole replay. */
function trainByItself({ action, steps, ...question }) {
  const key = JSON.stringify(question);
  if (action !== "reset" && ownTraining?.key === key) return { frame: ownTraining.step(steps ?? 1) };
  ownTraining = Object.assign(new OwnTraining(question), { key });
  const replay = ownTraining.replay();
  if (steps) replay.frames.push(ownTraining.step(steps));
  return { replay };
}
