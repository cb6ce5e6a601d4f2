// A network that the page computes by itself, in double precision: values, gradients and Jacobians

/** The modules of a diagram in their order: the name of each, its item, and the item of every argument. */
function modulesOf({ items, arrows }) {
  const found = items.flatMap((item, at) => (isModule(item) ? [{ name: item.label, item: at, module: item.module }] : []));
  for (const module of found) {
    const into = arrows.filter((arrow) => arrow.target === module.item && arrow.block);
    module.inputs = into.map(({ source, block }) => ({ argument: block.argument, item: source }));
  }
  return found.sort((a, b) => a.module - b.module);
}

/** A network with its cost, on examples: `x` is a row for each, `targets` a label or a row. `weights` has rows by item. */
class Network {
  constructor(diagram, weights, x, targets, cost) {
    this.items = diagram.items;
    this.weights = weights;
    this.x = x;
    this.targets = targets;
    const modules = modulesOf(diagram);
    this.mean = modules.at(-1);
    this.cost = { ...modules.at(-2), name: cost ?? modules.at(-2).name };
    this.modules = [...modules.slice(0, -2), this.cost];
    this.input = this.items.findIndex(({ kind }) => kind === "input");
    this.output = this.cost.inputs[0].item;
  }

  isWeight(item) {
    return this.items[item].kind === "weight";
  }

  /** The rows of the arguments of a module, for an example. */
  arguments(module, values, targets) {
    const found = {};
    for (const { argument, item } of module.inputs) found[argument] = values[item];
    if (module === this.cost) found.targets = targets;
    return found;
  }

  /** The values of all items for an example; without targets those up to the cost. */
  values(x, targets) {
    const values = { ...this.weights, [this.input]: x };
    for (const module of this.modules) {
      if (module === this.cost && targets === undefined) continue;
      values[module.item] = OPERATIONS[module.name].forward(this.arguments(module, values, targets));
    }
    return values;
  }

  predict(x) {
    return this.values(x)[this.output];
  }

  allValues() {
    return this.x.map((x, b) => this.values(x, this.targets[b]));
  }

  /** How many numbers the average loss is the mean of. */
  count(values) {
    return values.length * values[0][this.cost.item].length;
  }

  loss(values = this.allValues()) {
    return values.reduce((sum, one) => sum + one[this.cost.item].reduce((a, b) => a + b, 0), 0) / this.count(values);
  }

  /** Adds the product of a row with each Jacobian of a module to its arrays, one for each argument. */
  pull(module, row, values, targets, arrays) {
    const sums = {};
    for (const [n, { argument }] of module.inputs.entries()) sums[argument] = arrays[n];
    OPERATIONS[module.name].pull(row, this.arguments(module, values, targets), sums);
  }

  /** The gradient of the average loss: by the weights, summed over the examples, and by every other item, for each. */
  gradients(values = this.allValues()) {
    const weights = {};
    for (const [item, row] of Object.entries(this.weights)) weights[item] = new Float64Array(row.length);
    const items = [this.input, ...this.modules.map(({ item }) => item)];
    const states = values.map((one, b) => {
      const sums = { ...weights };
      for (const item of items) sums[item] = new Float64Array(one[item].length);
      sums[this.cost.item].fill(1 / this.count(values));
      for (const module of [...this.modules].reverse()) {
        const arrays = module.inputs.map(({ item }) => sums[item]);
        this.pull(module, sums[module.item], one, this.targets[b], arrays);
      }
      return sums;
    });
    return { weights, states };
  }

  /** The product of a row by a module's output with its Jacobians, an array for each of its arguments. */
  parts(module, row, values, targets) {
    const arrays = module.inputs.map(({ item }) => new Float64Array(values[item].length));
    this.pull(module, row, values, targets, arrays);
    return arrays;
  }

  /** For every Jacobian of a module by a value that is no weight: its Frobenius norm, the mean over the examples. */
  norms(module, values) {
    const { squares } = OPERATIONS[module.name];
    const totals = module.inputs.map(() => 0);
    values.forEach((one, b) => {
      const size = one[module.item].length;
      const sums = module.inputs.map(() => 0);
      if (squares) sums[0] = squares(this.arguments(module, one, this.targets[b]));
      else {
        for (let r = 0; r < size; r++) {
          const parts = this.parts(module, unit(size, r), one, this.targets[b]);
          parts.forEach((part, n) => (sums[n] += dot(part, part)));
        }
      }
      sums.forEach((sum, n) => (totals[n] += Math.sqrt(sum) / values.length));
    });
    return totals.filter((_, n) => !this.isWeight(module.inputs[n].item));
  }
}

const unit = (size, place) => new Float64Array(size).fill(1, place, place + 1);
