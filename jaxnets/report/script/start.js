// The page

function renderHead() {
  const { title, about } = state.data;
  const { model, ...rest } = about;
  document.title = `${title} · jaxnets`;
  one("h1").textContent = /^\w+$/.test(title) ? `The Jacobians of ${title}` : "The Jacobians of a network";
  one(".page-head .model").textContent = model;
  one(".about").replaceChildren(...Object.entries(rest).map(([term, text]) => h("div", h("dt", term), h("dd", text))));
}

/** Everything on the page that depends on the model. */
function renderModel() {
  renderHead();
  renderGraph();
  choose(0);
  renderOrder();
  renderComparison();
  renderTraining();
}

function renderFrame() {
  const sections = [...document.querySelectorAll("main section")].filter(
    (section) => section.id !== "controls" || state.data.live,
  );
  one("nav ul").replaceChildren(
    ...sections.map((section) => h("li", h("a", { href: `#${section.id}` }, one("h2", section).textContent))),
  );
  const theme = one("#theme");
  const dark = (on) => theme.setAttribute("aria-pressed", String(on));
  dark(matchMedia("(prefers-color-scheme: dark)").matches);
  theme.addEventListener("click", () => {
    const on = theme.getAttribute("aria-pressed") !== "true";
    document.documentElement.dataset.theme = on ? "dark" : "light";
    dark(on);
  });
}

renderFrame();
renderControls();
renderModel();
renderSaturation();
renderSpeed();
