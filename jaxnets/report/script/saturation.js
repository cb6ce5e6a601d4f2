// Saturation

function renderSaturation() {
  const { saturation } = state.data;
  const { dtype, logits, positions, panels } = saturation;
  const parts = panels.map(({ title, series, note }) => {
    const lines = series.map(({ name, values }) => ({ name: computed(name), values }));
    return charted(computed(title), positions, lines, "t", computed(note));
  });
  const output = h("output.number", { for: "position", role: "status" });
  const move = (i) => {
    state.position = i;
    const at = { t: positions[i], logits: logits.replace("t", positions[i]), dtype };
    const words = say("t = {t}, logits {logits} in {dtype}", at);
    output.textContent = words;
    slider.setAttribute("aria-valuetext", words);
    parts.forEach((part) => part.move(i));
  };
  const slider = h("input", {
    type: "range",
    id: "position",
    min: 0,
    max: positions.length - 1,
    value: state.position,
    oninput: () => move(Number(slider.value)),
  });
  body("saturation").replaceChildren(
    h(
      "div.row",
      h("label", { for: "position", class: "controls" }, say("the growing logit")),
      h("span.controls", { style: "display:flex;flex:1" }, slider),
      output,
    ),
    h(
      "div.columns.pairs",
      parts.map((part) => part.element),
    ),
  );
  move(state.position);
}
