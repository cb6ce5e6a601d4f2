// Numbers and names

/** The number that the data holds: what JSON cannot write are the texts "nan", "inf" and "-inf". */
const number = (x) => (typeof x === "string" ? { nan: NaN, inf: Infinity, "-inf": -Infinity }[x] : x);

function short(x, digits = 3) {
  const value = number(x);
  if (!Number.isFinite(value)) return String(x);
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}

const grouped = (x) => (number(x) < 1e15 ? x.toLocaleString("en") : short(x));

function bytes(x) {
  const n = number(x);
  if (!Number.isFinite(n)) return say("unlimited");
  const unit = n < 1000 ? 0 : Math.min(Math.floor(Math.log10(n) / 3), 4);
  return `${Number((n / 1000 ** unit).toPrecision(unit ? 3 : 15))} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

const subscript = (n) => String(n).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

/** Short names of the weights, such as w₁ for params[0]['w']: the last key, with a number for what stands before it. */
function shortNames(items) {
  const groups = [];
  const names = new Map();
  for (const { kind, label } of items) {
    if (kind !== "weight") continue;
    const [, before, key] = /^(.*?)[[.]?['"]?(\w+)['"]?\]?$/.exec(label) ?? [null, "", label];
    if (!groups.includes(before)) groups.push(before);
    names.set(label, (/^\d/.test(key) ? `p${subscript(key)}·` : key) + subscript(groups.indexOf(before) + 1));
  }
  return names;
}

/** The indices of the n-th entry of an array, row by row. */
function unravel(n, shape) {
  const indices = shape.map(() => 0);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    indices[axis] = n % shape[axis];
    n = Math.floor(n / shape[axis]);
  }
  return indices;
}

function entry(name, n, shape, example) {
  const indices = [...(example ? ["b=0"] : []), ...unravel(n, shape)];
  return indices.length ? `${name}[${indices.join(",")}]` : name;
}
