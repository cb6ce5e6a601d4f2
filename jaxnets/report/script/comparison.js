// Comparison

/** An error in ULP, with a bar for its digits, at most ten: all of it for NaN. */
const digits = (ulp) => [h("small", `${short(ulp, 2)} ULP`), track(Math.min(1, Math.log10(1 + number(ulp)) / 10))];

function comparison({ title, dtype, blocks, milliseconds }) {
  const methods = [...new Set(blocks.flatMap(({ errors }) => Object.keys(errors)))];
  const error = (found, name) =>
    found ? [short(found.absolute, 2), name === "differences" ? [] : digits(found.ulp)] : "–";
  const rows = blocks.map((block) => [
    [h("code", block.name), h("small", `[${block.output}]×[${block.input}]`)],
    computed(block.structure),
    [bytes(block.stored), h("small", say("of {bytes}", { bytes: bytes(block.dense) }))],
    ...methods.map((name) => error(block.errors[name], name)),
    computed(block.verdict),
  ]);
  const errors = methods.map((name) => say("error to {method}", { method: computed(name) }));
  const heads = [say("Jacobian"), say("structure"), say("stored"), ...errors, say("verdict")];
  const agree = blocks.filter((block) => block.verdict.startsWith("ok")).length;
  const times = Object.entries(milliseconds).map(([name, time]) => `${computed(name)} ${short(time, 2)} ms`);
  return h(
    "div",
    table(computed(title), heads.map((head) => [head]), rows),
    note(say("{count} of {total} Jacobians agree in {dtype}.", { count: agree, total: blocks.length, dtype })),
    note(times.length && say("One call for all: {times}.", { times: times.join(", ") })),
  );
}

/** Shows the tables, or a button that asks for them. */
function renderComparison(refusal) {
  const { comparisons } = state.data;
  const use = (found) => Object.assign(state.data, found);
  const compare = () => request(row, "/compare", settings(), use, renderComparison);
  const row = h("div.row.controls", button(refusal ? say("Try again") : say("Compare"), compare, { class: "main" }));
  const words = refusal ? [h("p.alert", { role: "alert" }, refusal), row] : [row];
  body("comparison").replaceChildren(...(comparisons ? comparisons.map(comparison) : words));
}
