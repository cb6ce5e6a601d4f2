// The replay of a training: regions or a curve, charts, and the controls to go from frame to frame

const MARKS = [
  (x, y) => `M${x - 3.6} ${y}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z`,
  (x, y) => `M${x} ${y - 4.6}L${x + 4.4} ${y + 3.4}H${x - 4.4}z`,
  (x, y) => `M${x - 3.3} ${y - 3.3}h6.6v6.6h-6.6z`,
];
const PLACES = ["c1", "c0", "c2", "c3", "c4"];

/** The mark of a point of a class, at a place. */
const mark = (label, x, y) => h("path", { class: `dot ${PLACES[label % 5]}`, d: MARKS[label % 3](x, y) });

/** The decision regions: one path of squares per class and level. */
function regions({ size }, codes) {
  const paths = new Map();
  for (let n = 0; n < codes.length; n++) {
    const code = codes.charCodeAt(n) - 48;
    const [row, column] = [size - 1 - Math.floor(n / size), n % size];
    paths.set(code, `${paths.get(code) ?? ""}M${column} ${row}h1v1h-1z`);
  }
  return [...paths].map(([code, d]) =>
    h("path", {
      class: `region ${PLACES[Math.floor(code / 8) % 5]}`,
      "fill-opacity": (0.08 + 0.06 * (code % 8)).toFixed(2),
      d,
      transform: `scale(${300 / size})`,
    }),
  );
}

/** The picture of a training, and `draw(frame)`, which sets it to one of its frames and returns it in words. */
function trainingPicture(replay) {
  const { extent } = replay;
  const [west, east, south, north] = extent;
  const ground = h("g", { "shape-rendering": "crispEdges" });
  const over = h("path.series.c0", { "stroke-width": 2.5 }); // the curve of a network of one number
  const place = (x, y) => [(300 * (x - west)) / (east - west), (300 * (north - y)) / (north - south)];
  const points = replay.x.map((point, i) => mark(replay.classes ? replay.y[i] : 0, ...place(...point)));
  const map = h("svg.map", { viewBox: "0 0 300 300", width: 440, role: "img" }, ground, points, over);
  const draw = ({ step, loss, accuracy, regions: codes, curve }) => {
    const at = { step, loss: short(loss), accuracy: short(accuracy ?? 0), points: points.length, classes: replay.classes };
    if (replay.classes) {
      ground.replaceChildren(...regions(replay, codes));
      const words = say("Decision regions and {points} points of {classes} classes at step {step}; accuracy {accuracy}", at);
      map.setAttribute("aria-label", words);
      return say("step {step}, loss {loss}, accuracy {accuracy}", at);
    }
    const line = curve.map((y, n) => place(west + (n * (east - west)) / (curve.length - 1), number(y)).join(" "));
    over.setAttribute("d", `M${line.join("L")}`);
    map.setAttribute("aria-label", say("The network's curve and {points} points at step {step}; loss {loss}", at));
    return say("step {step}, loss {loss}", at);
  };
  return { map, draw };
}

/** The charts beside the picture. */
function trainingCharts({ frames, layers, classes }) {
  const steps = frames.map((frame) => frame.step);
  const lines = [{ name: say("loss"), values: frames.map((frame) => frame.loss) }];
  if (classes) lines.push({ name: say("accuracy"), values: frames.map((frame) => frame.accuracy) });
  const norms = layers.map((name, i) => ({ name, values: frames.map((frame) => frame.norms[i]) }));
  return [
    charted(classes ? say("Loss and accuracy") : say("Loss"), steps, lines, say("step")),
    charted(say("Norm of every layer's Jacobian, mean over the examples"), steps, norms, say("step")),
  ];
}

/** Shows the replay in its place, and the controls for it in theirs. */
function renderReplay() {
  clearInterval(state.timer);
  state.timer = null;
  const { replay } = state.data;
  remember();
  if (!replay) return;
  const { frames } = replay;
  state.frame = Math.min(state.frame, frames.length - 1);
  const { map, draw } = trainingPicture(replay);
  const measures = trainingCharts(replay);
  const output = h("output.number", { role: "status" });
  const show = (i) => {
    state.frame = i;
    output.textContent = draw(frames[i]);
    slider.value = i;
    slider.setAttribute("aria-valuetext", say("step {step}", frames[i]));
    back.disabled = i === 0;
    ahead.disabled = i === frames.length - 1;
    measures.forEach((part) => part.move(i));
    if (!state.timer && !state.running && !state.goal) showWeights();
    remember();
  };
  const pause = () => {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = say("Play");
  };
  const playing = () => {
    if (state.timer) {
      pause();
      return showWeights();
    }
    if (state.frame === frames.length - 1) show(0);
    play.textContent = say("Pause");
    state.timer = setInterval(() => (state.frame < frames.length - 1 ? show(state.frame + 1) : playing()), 350);
  };
  const go = (i) => {
    pause();
    show(i);
  };
  const play = button(say("Play"), playing, { "data-do": "play", disabled: frames.length < 2 });
  const back = button(say("Back"), () => go(state.frame - 1), { "data-do": "back" });
  const ahead = button(say("Forward"), () => go(state.frame + 1), { "data-do": "step" });
  const slider = h("input", {
    type: "range",
    "aria-label": say("Frame"),
    min: 0,
    max: frames.length - 1,
    oninput: () => go(Number(slider.value)),
  });
  const first = button(say("First"), () => go(0), { "data-do": "reset" });
  one("#training .playback").replaceChildren(play, back, ahead, first, slider);
  one("#replay").replaceChildren(
    h("p.model", replay.model),
    h(
      "div.columns",
      h("figure", map, h("figcaption", output, h("br"), computed(replay.about)), saving(map, say("Regions"))),
      measures.map((part) => part.element),
    ),
  );
  show(state.frame);
}
