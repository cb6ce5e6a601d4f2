// The page

function renderHead() {
  const { title, about } = state.data;
  const { model, ...rest } = about;
  document.title = `${title} · jaxnets`;
  one("h1").textContent = /^\w+$/.test(title)
    ? say("The Jacobians of {title}", { title })
    : say("The Jacobians of a network");
  one(".page-head .model").textContent = model;
  one(".about").replaceChildren(
    ...Object.entries(rest).map(([term, text]) => h("div", h("dt", computed(term)), h("dd", computed(text)))),
  );
}

/** Everything on the page that depends on the model. */
function renderModel() {
  renderHead();
  renderGraph();
  renderModule();
  renderOrder();
  renderComparison();
  renderTraining();
}

function renderNavigation() {
  const sections = [...document.querySelectorAll("main section")].filter(
    (section) => section.id !== "controls" || state.data.live,
  );
  one("nav ul").replaceChildren(
    ...sections.map((section) => h("li", h("a", { href: `#${section.id}` }, one("h2", section).textContent))),
  );
}

function listen() {
  one("#language").addEventListener("click", changeLanguage);
  one("#copy").addEventListener("click", copyLink);
  one("#start-tour").addEventListener("click", () => goToStop(0));
  one("#tour").addEventListener("keydown", tourKey);
  const theme = one("#theme");
  const dark = (on) => theme.setAttribute("aria-pressed", String(on));
  dark(matchMedia("(prefers-color-scheme: dark)").matches);
  theme.addEventListener("click", () => {
    const on = theme.getAttribute("aria-pressed") !== "true";
    document.documentElement.dataset.theme = on ? "dark" : "light";
    dark(on);
  });
}

function renderAll() {
  renderTexts();
  renderNavigation();
  renderControls();
  renderModel();
  renderSaturation();
  renderSpeed();
  renderTour();
}

state.language = firstLanguage();
state.learned.data = FIRST_DATA;
listen();
renderAll();
restore();
