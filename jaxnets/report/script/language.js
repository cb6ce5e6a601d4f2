// Languages

const PAGE_LANGUAGE = document.documentElement.lang; // that it was made in
const TEXTS = JSON.parse(document.getElementById("texts").textContent); // every language's, by the English text

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** A text of the page in its language. A name in braces stands for a value. */
const say = (text, values) => filled(TEXTS[state.language]?.page[text] ?? text, values);

/** A text that Python computed, in the page's language: found as a whole, by a text with names in braces, or in parts. */
function computed(text) {
  const known = TEXTS[state.language]?.computed ?? {};
  if (Object.hasOwn(known, text)) return known[text];
  for (const [pattern, translation] of Object.entries(known)) {
    const values = pattern.includes("{") && matcher(pattern).exec(text)?.groups;
    if (!values) continue;
    for (const [name, value] of Object.entries(values)) values[name] = computed(value);
    return filled(translation, values);
  }
  const between = [", ", " + "].find((mark) => text.includes(mark));
  return between ? text.split(between).map(computed).join(between) : text;
}

function matcher(pattern) {
  const parts = pattern.split(/\{(\w+)\}/);
  const escaped = (text) => text.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  return new RegExp(`^${parts.map((part, i) => (i % 2 ? `(?<${part}>.*)` : escaped(part))).join("")}$`);
}

/** The texts that stand in page.html. */
function renderTexts() {
  document.documentElement.lang = state.language;
  for (const element of document.querySelectorAll("[data-say]")) {
    element.dataset.say ||= element.textContent.replace(/\s+/g, " ").trim();
    element.textContent = say(element.dataset.say);
  }
  one("nav").setAttribute("aria-label", say("Panels"));
  const other = Object.keys(TEXTS).find((language) => language !== state.language);
  const control = one("#language");
  control.textContent = other.toUpperCase();
  control.lang = other;
  control.ariaLabel = control.title = TEXTS[other].name;
}

/**
 * Shows the page in another language, also when it is loaded again, and leaves what was chosen and typed as it is.
 * Waits for what is being computed.
 */
function changeLanguage() {
  state.turning = state.busy.size > 0;
  if (state.turning) return one("#language").setAttribute("aria-busy", "true");
  one("#language").removeAttribute("aria-busy");
  state.language = one("#language").lang;
  one("#told").hidden = true;
  remember();
  const typed = [...document.querySelectorAll("#controls [name]")].map(({ name, value }) => [name, value]);
  renderAll();
  for (const [name, value] of typed) one(`#controls [name="${name}"]`).value = value;
}

/** What the address asks for, or else the language that the page was made in. */
function firstLanguage() {
  return part("lang", (text) => Object.hasOwn(TEXTS, text)) ?? PAGE_LANGUAGE;
}
