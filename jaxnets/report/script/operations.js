// Modules that the page computes by itself, each on one example: a row of numbers in, a row of numbers out

/** σ(x) = 1 / (1 + exp(−x)), without overflow. */
const logistic = (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** Φ(x), the normal distribution function: a series near 0, and a continued fraction in the tails. */
function normalDistribution(x) {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (Math.abs(x) < 3) {
    let [term, sum] = [x, x];
    for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
    return 0.5 + density * sum;
  }
  let fraction = Math.abs(x);
  for (let n = 60; n > 0; n--) fraction = Math.abs(x) + n / fraction;
  return x < 0 ? density / fraction : 1 - density / fraction;
}

/** A module that works on every number by itself. */
const elementwise = (value, slope) => ({
  forward: ({ x }) => x.map(value),
  pull: (u, { x }, sums) => {
    for (let i = 0; i < x.length; i++) sums.x[i] += u[i] * slope(x[i]);
  },
  squares: ({ x }) => x.reduce((sum, z) => sum + slope(z) ** 2, 0),
});

/** log Σ exp(x), and the probabilities. */
function normalized(x) {
  const largest = Math.max(...x);
  const powers = x.map((z) => Math.exp(z - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return { total: largest + Math.log(total), p: powers.map((power) => power / total) };
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** Every module by its name. From the values of its arguments `forward` makes its output, and `pull` adds the product of a
 * row by that output with each of its Jacobians to `sums`. `squares` is the sum of the squares of the Jacobian by the input,
 * where that takes less than all of its rows. */
const OPERATIONS = {
  linear: {
    forward: ({ x, w, b }) => {
      const y = new Float64Array(w.length / x.length);
      for (let o = 0; o < y.length; o++) {
        let sum = 0;
        for (let i = 0; i < x.length; i++) sum += w[o * x.length + i] * x[i];
        y[o] = sum + (b ? b[o] : 0);
      }
      return y;
    },
    pull: (u, { x, w, b }, sums) => {
      const { x: byInput, w: byWeights } = sums;
      for (let o = 0, at = 0; o < u.length; o++) {
        for (let i = 0; i < x.length; i++, at++) {
          byInput[i] += u[o] * w[at];
          byWeights[at] += u[o] * x[i];
        }
        if (b) sums.b[o] += u[o];
      }
    },
    squares: ({ w }) => dot(w, w),
  },
  add: {
    forward: ({ x1, x2 }) => x1.map((z, i) => z + x2[i]),
    pull: (u, _, sums) => u.forEach((z, i) => [sums.x1, sums.x2].forEach((sum) => (sum[i] += z))),
  },
  flatten: elementwise((x) => x, () => 1),
  identity: elementwise((x) => x, () => 1),
  relu: elementwise((x) => (x > 0 ? x : 0), (x) => (x > 0 ? 1 : 0)),
  leaky_relu: elementwise((x) => (x > 0 ? x : 0.01 * x), (x) => (x > 0 ? 1 : 0.01)),
  elu: elementwise((x) => (x > 0 ? x : Math.expm1(x)), (x) => (x > 0 ? 1 : Math.exp(x))),
  tanh: elementwise(Math.tanh, (x) => {
    const q = Math.exp(-2 * Math.abs(x));
    return (4 * q) / (1 + q) ** 2;
  }),
  sigmoid: elementwise(logistic, (x) => logistic(x) * logistic(-x)),
  log_sigmoid: elementwise((x) => -softplus(-x), (x) => logistic(-x)),
  softplus: elementwise(softplus, logistic),
  silu: elementwise((x) => x * logistic(x), (x) => logistic(x) * (1 + x * logistic(-x))),
  gelu: elementwise(
    (x) => x * normalDistribution(x),
    (x) => normalDistribution(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  ),
  softmax: {
    forward: ({ x }) => normalized(x).p,
    pull: (u, { x }, sums) => {
      const { p } = normalized(x);
      const mean = dot(u, p);
      p.forEach((share, i) => (sums.x[i] += share * (u[i] - mean)));
    },
  },
  log_softmax: {
    forward: ({ x }) => {
      const { total } = normalized(x);
      return x.map((z) => z - total);
    },
    pull: (u, { x }, sums) => {
      const total = u.reduce((a, b) => a + b, 0);
      normalized(x).p.forEach((share, i) => (sums.x[i] += u[i] - share * total));
    },
  },
  nll: {
    forward: ({ predictions, targets }) => Float64Array.of(-predictions[targets]),
    pull: (u, { targets }, sums) => (sums.predictions[targets] -= u[0]),
  },
  squared_error: {
    forward: ({ predictions, targets }) => predictions.map((y, i) => (y - targets[i]) ** 2),
    pull: (u, { predictions, targets }, sums) =>
      predictions.forEach((y, i) => (sums.predictions[i] += 2 * u[i] * (y - targets[i]))),
  },
};
