// Charts

/** Where numbers stand on a chart, from 0 at the bottom to 1. The scale is logarithmic if they have one sign and differ by
 * orders of magnitude. */
function scale(values) {
  const finite = values.filter(Number.isFinite);
  const sizes = finite.map(Math.abs).filter((size) => size > 0);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const [small, large] = [Math.min(...sizes), Math.max(...sizes)];
  const sign = high > -low ? 1 : -1;
  const against = Math.max(0, -sign * (sign > 0 ? low : high)); // the largest number of the other sign
  if (large / small > 2e3 && against < 1e-5 * large) {
    const floor = Math.max(Math.floor(Math.log10(small)), Math.ceil(Math.log10(large)) - 50);
    const top = Math.ceil(Math.log10(large));
    const at = (x) => (x * sign > 0 ? Math.max(0, (Math.log10(Math.abs(x)) - floor) / (top - floor)) : 0);
    const label = (power) =>
      `${sign < 0 ? "−" : ""}10${String(power).replace(/./g, (letter) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(letter)])}`;
    const place = sign > 0 ? at : (x) => 1 - at(x);
    const middle = Math.round((floor + top) / 2);
    const zero = finite.every((x) => x * sign > 0) ? label(floor) : against ? (sign > 0 ? "≤ 0" : "≥ 0") : "0";
    return {
      place,
      ticks: [
        [zero, place(0)],
        [label(middle), place(sign * 10 ** middle)],
        [label(top), place(sign * 10 ** top)],
      ],
    };
  }
  const range = high - low || 1;
  return {
    place: (x) => (x - low) / range,
    ticks: [...new Set([low, (low + high) / 2, high])].map((x) => [short(x), (x - low) / range]),
  };
}

/** Lines over `labels`, with a mark at one of them, which `move(i)` sets. */
function chart(title, labels, series, unit) {
  const [left, top, w, t] = [56, 10, 326, 150];
  const x = (i) => left + (labels.length > 1 ? (i / (labels.length - 1)) * w : w / 2);
  const { place, ticks } = scale(series.flatMap(({ values }) => values.map(number)));
  const y = (value) => top + t * (1 - place(value));
  const line = ({ values }, s) => {
    let command = "M";
    const points = values.map(number).map((value, i) => {
      if (!Number.isFinite(value)) {
        command = "M";
        return "";
      }
      const point = `${command}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      command = "L";
      return point;
    });
    return h("path", { d: points.join(""), ...pen(s, series.length) });
  };
  const now = h("line.now", { y1: top, y2: top + t });
  const dots = series.map((_, s) => h("circle", { class: `dot c${s % 5}`, r: 4.5 }));
  const label = (i, anchor) => h("text", { x: x(i), y: top + t + 17, "text-anchor": anchor }, String(labels[i]));
  const svg = h(
    "svg.chart",
    { viewBox: `0 0 ${left + w + 14} ${top + t + 24}`, width: 460, role: "img" },
    ticks.map(([text, share]) => [
      h("line.axis", { x1: left, x2: left + w, y1: top + t * (1 - share), y2: top + t * (1 - share) }),
      h("text", { x: left - 10, y: top + t * (1 - share) + 4, "text-anchor": "end" }, text),
    ]),
    label(0, "start"),
    labels.length > 1 ? label(labels.length - 1, "end") : null,
    h("text", { x: left + w / 2, y: top + t + 17, "text-anchor": "middle" }, unit),
    series.map(line),
    now,
    dots,
  );
  const move = (i) => {
    now.setAttribute("x1", x(i));
    now.setAttribute("x2", x(i));
    const texts = series.map(({ name, values }, s) => {
      const value = number(values[i]);
      dots[s].setAttribute("visibility", Number.isFinite(value) ? "visible" : "hidden");
      dots[s].setAttribute("cx", x(i));
      if (Number.isFinite(value)) dots[s].setAttribute("cy", y(value));
      return `${name} ${values[i]}`;
    });
    const at = { title, unit, n: labels[i], values: texts.join(", ") };
    svg.setAttribute("aria-label", say("{title} at {unit} {n}: {values}", at));
  };
  return { svg, move };
}

/** How a line is drawn. Earlier lines are thicker, so that they can be seen below later ones at the same place. */
const pen = (s, count) => ({
  class: `series c${s % 5}`,
  "stroke-width": 1.6 + 1.1 * (count - 1 - s),
  "stroke-dasharray": s === 4 ? "2 3" : null,
});

/** A chart above a table with the numbers of its series, which is also its key. */
function charted(title, labels, series, unit, words) {
  const { svg, move } = chart(title, labels, series, unit);
  const cells = series.map(() => h("span.number"));
  const key = (s) =>
    h(
      "svg.key",
      { viewBox: "0 0 26 8", width: 26, "aria-hidden": "true" },
      h("path", { d: "M0 4H26", ...pen(s, series.length) }),
    );
  const rows = series.map(({ name }, s) => [[key(s), name], cells[s]]);
  const element = h(
    "figure",
    h("h3", title),
    svg,
    saving(svg, title),
    table(title, [[say("line")], [say("value"), true]], rows, { hidden: true }),
    note(words),
  );
  return {
    element,
    move: (i) => {
      move(i);
      series.forEach(({ values }, s) => {
        cells[s].textContent = short(values[i], 6);
        cells[s].classList.toggle("special", !Number.isFinite(number(values[i])));
      });
    },
  };
}
