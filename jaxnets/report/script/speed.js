// Speed

function renderSpeed() {
  const { benchmarks } = state.data;
  const tables = () =>
    benchmarks.map(({ measured, columns, rows }) =>
      table(
        computed(plain(measured)),
        columns.map((name) => [computed(plain(name))]),
        rows.map((row) => row.map(plain)),
      ),
    );
  body("speed").replaceChildren(
    ...(benchmarks?.length
      ? [h("details", h("summary", say("Show what was measured")), tables())]
      : [h("p", say("No measurements here yet; this command makes them:"), " ", h("code", "python -m benchmarks run"))]),
  );
}

/** Text without the marks of Markdown, which the tables come from. */
const plain = (text) => text.replace(/[`*]/g, "");
