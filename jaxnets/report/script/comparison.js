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
  const names = ["Jacobian", "structure", "stored", ...methods.map((name) => `error to ${name}`), "verdict"];
  const agree = blocks.filter((block) => block.verdict.startsWith("ok")).length;
  const times = Object.entries(milliseconds).map(([name, time]) => `${name} ${short(time, 2)} ms`);
  const body = table(title, names.map((name) => [name]), rows);
  const timed = times.length && `One call for all: ${times.join(", ")}.`;
  return h("div", body, note(`${agree} of ${blocks.length} Jacobians agree in ${dtype}.`), note(timed));
}

/** Shows the tables, or a button that asks for them. */
function renderComparison(refusal) {
  const { comparisons } = state.data;
  const use = (found) => Object.assign(state.data, found);
  const compare = () => request(row, "/compare", settings(), use, renderComparison);
  const row = h("div.row.controls", button(refusal ? "Try again" : "Compare", compare, { class: "main" }));
  const words = refusal ? [h("p.alert", { role: "alert" }, refusal), row] : [row];
  body("comparison").replaceChildren(...(comparisons ? comparisons.map(comparison) : words));
}
