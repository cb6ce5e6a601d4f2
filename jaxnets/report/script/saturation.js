// Saturation

function renderSaturation() {
  const { saturation } = state.data;
  const { dtype, logits, positions, panels } = saturation;
  const parts = panels.map(({ title, series, note }) => charted(title, positions, series, "t", note));
  const output = h("output.number", { for: "position", role: "status" });
  const move = (i) => {
    state.position = i;
    const words = `t = ${positions[i]}, logits ${logits.replace("t", positions[i])} in ${dtype}`;
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
      h("label", { for: "position", class: "controls" }, "the growing logit"),
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
