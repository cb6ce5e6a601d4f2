// Optimizers of the training that the page computes by itself, as optax has them

/** Every optimizer by its name: from the gradient of an array and a memory for it, the array's change at rate 1. */
const OPTIMIZERS = {
  sgd: (gradient) => gradient.map((g) => -g),
  momentum: (gradient, memory) => {
    memory.trace = gradient.map((g, i) => g + 0.9 * (memory.trace?.[i] ?? 0));
    return memory.trace.map((t) => -t);
  },
  adam: (gradient, memory) => {
    memory.step = (memory.step ?? 0) + 1;
    memory.mean = gradient.map((g, i) => 0.9 * (memory.mean?.[i] ?? 0) + 0.1 * g);
    memory.square = gradient.map((g, i) => 0.999 * (memory.square?.[i] ?? 0) + 0.001 * g * g);
    const [first, second] = [1 - 0.9 ** memory.step, 1 - 0.999 ** memory.step];
    return memory.mean.map((m, i) => -(m / first) / (Math.sqrt(memory.square[i] / second) + 1e-8));
  },
};

/** A step of gradient descent on all examples of a network; `memories` are those of an optimizer, by item. */
function descend(network, optimizer, rate, memories) {
  const { weights } = network.gradients();
  for (const [item, gradient] of Object.entries(weights)) {
    const change = OPTIMIZERS[optimizer](gradient, (memories[item] ??= {}));
    network.weights[item] = network.weights[item].map((w, i) => w + rate * change[i]);
  }
}
