// Comparison

/** A bar whose length is the number of digits of an error, at most ten. */
const digits = (ulp) => track(Number.isFinite(number(ulp)) ? Math.min(1, Math.log10(1 + number(ulp)) / 10) : 1);

function comparison({ title, dtype, blocks, milliseconds }) {
  const methods = [...new Set(blocks.flatMap((block) => Object.keys(block.errors)))];
  const error = (found) =>
    found ? [short(found.absolute, 2), h("small", `${short(found.ulp, 2)} ULP`), digits(found.ulp)] : "–";
  const rows = blocks.map((block) => [
    [h("code", block.name), h("small", `[${block.output}]×[${block.input}]`)],
    block.structure,
    [bytes(block.stored), h("small", `of ${bytes(block.dense)}`)],
    ...methods.map((method) => error(block.errors[method])),
    block.verdict,
  ]);
  const heads = ["Jacobian", "structure", "stored", ...methods.map((name) => `error to ${name}`), "verdict"];
  const agree = blocks.filter((block) => block.verdict.startsWith("ok")).length;
  const notes = [note(`${agree} of ${blocks.length} Jacobians agree in ${dtype}.`)];
  const times = Object.entries(milliseconds).map(([method, time]) => `${method} ${short(time, 2)} ms`);
  if (times.length) notes.push(note(`One compiled call for all of them, dense: ${times.join(", ")}.`));
  return h("div", table(title, heads.map((head) => [head]), rows), ...notes);
}

/** Shows the tables, or says why there are none. */
function renderComparison(refusal) {
  const { comparisons } = state.data;
  const again = button("Try again", () => fillComparisons(settings()));
  const words = refusal ? [h("p.alert", refusal), again] : [h("p", "computing…")];
  body("comparison").replaceChildren(...(comparisons ? comparisons.map(comparison) : words));
}
