// The module

/** Python code in which keywords, strings and comments are marked. */
function highlighted(source) {
  const tokens =
    /("""[^]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(#[^\n]*)|\b(def|return|lambda|if|else|elif|for|in|not|and|or|is|None|True|False|class|with|while|raise|import|from|as)\b/g;
  const code = h("code");
  let end = 0;
  for (const match of source.matchAll(tokens)) {
    const kind = match[1] ? (match[1].startsWith('"""') ? "comment" : "string") : match[2] ? "comment" : "keyword";
    code.append(source.slice(end, match.index), h("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  code.append(source.slice(end));
  return code;
}

/** A docstring as paragraphs. Formulae that stand side by side in it are set one below the other. */
function documentation(text) {
  return text
    .split(/\n\s*\n/)
    .filter(Boolean)
    .map((part) => {
      const lines = part.includes("∂") ? part.split(/\s{2,}|\n/) : [part.replace(/\s+/g, " ")];
      return lines.map((line) => h(line.startsWith("∂") ? "p.formula.small" : "p.note", line));
    });
}

/** Code without the indentation that all its lines share. */
function dedented(source) {
  const indents = source
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => /^ */.exec(line)[0].length);
  return source.replace(new RegExp(`^ {${Math.min(...indents)}}`, "gm"), "").trimEnd();
}

const listing = (title, source) =>
  source ? [h("h3", title), h("pre", { tabindex: 0, "aria-label": title }, highlighted(dedented(source)))] : [];

function renderModule() {
  const { modules } = state.data;
  const module = modules[state.module];
  const step = (to, label) => {
    const name = modules[to]?.name;
    const named = say("Module {n}: {words}", { n: to + 1, words: name });
    return name ? [button(label(name), () => choose(to), { "data-to": to, "aria-label": named })] : [];
  };
  const words = module.jacobians.map((j) =>
    h(
      "div.jacobian",
      h("p.formula", j.formula),
      h(
        "dl",
        [
          [say("dims"), j.dims, "math"],
          [say("structure"), computed(j.structure)],
          [say("stored"), bytes(j.stored)],
          [say("dense"), bytes(j.dense)],
        ].flatMap(([term, text, kind]) => [h("dt", term), h("dd", { class: kind }, text)]),
      ),
    ),
  );
  const place = { n: state.module + 1, total: modules.length, shape: module.output };
  const focused = one("#steps").contains(document.activeElement);
  one("#module-name").replaceChildren(
    module.name,
    h("span.math.quiet", ` ${say("{n} of {total}, output [{shape}]", place)}`),
  );
  one("#steps").replaceChildren(
    ...[step(state.module - 1, (name) => `← ${name}`), step(state.module + 1, (name) => `${name} →`)].flat(),
  );
  if (focused) (one(`[data-to="${state.module + 1}"]`) ?? one("#steps button"))?.focus();
  body("module").replaceChildren(
    h(
      "div.pane",
      h("div", words, h("div", { lang: "en" }, documentation(module.documentation))),
      h(
        "div",
        listing(say("Forward pass"), module.forward),
        listing(say("Rule"), module.rule),
        module.file ? h("p.math.quiet", module.file) : note(say("This function is one of JAX; there is no code to show.")),
      ),
      h("div", { id: "picture" }),
    ),
  );
  renderPicture();
}
