// Comparison

/** A bar whose length is the number of digits of an error, at most ten. */
const digits = (ulp) => track(Number.isFinite(number(ulp)) ? Math.min(1, Math.log10(1 + number(ulp)) / 10) : 1);

function comparison({ title, dtype, blocks }) {
  const methods = [...new Set(blocks.flatMap((block) => Object.keys(block.errors)))];
  const timed = [...new Set(blocks.flatMap((block) => Object.keys(block.milliseconds)))];
  const error = (found) =>
    found ? [short(found.absolute, 2), h("small", `${short(found.ulp, 2)} ULP`), digits(found.ulp)] : "–";
  const rows = blocks.map((block) => [
    [h("code", block.name), h("small", `[${block.output}]×[${block.input}]`)],
    block.structure,
    [bytes(block.stored), h("small", `of ${bytes(block.dense)}`)],
    ...methods.map((method) => error(block.errors[method])),
    ...timed.map((method) => (block.milliseconds[method] == null ? "–" : short(block.milliseconds[method], 2))),
    block.verdict,
  ]);
  const last = [...methods.map((name) => `error to ${name}`), ...timed.map((name) => `ms of ${name}`), "verdict"];
  const heads = ["Jacobian", "structure", "stored", ...last].map((head) => [head]);
  const agree = blocks.filter((block) => block.verdict.startsWith("ok")).length;
  return h("div", table(title, heads, rows), note(`${agree} of ${blocks.length} Jacobians agree in ${dtype}.`));
}

/** Shows the tables, or says why there are none. */
function renderComparison(refusal) {
  const { comparisons } = state.data;
  const again = button("Try again", () => fillComparisons(settings()));
  const words = refusal ? [h("p.alert", refusal), again] : [h("p", "computing…")];
  body("comparison").replaceChildren(...(comparisons ? comparisons.map(comparison) : words));
}
