// Speed

function renderSpeed() {
  const { benchmarks } = state.data;
  body("speed").replaceChildren(
    ...(benchmarks?.length
      ? benchmarks.map(({ measured, columns, rows }) =>
          table(
            plain(measured),
            columns.map((name) => [plain(name)]),
            rows.map((row) => row.map(plain)),
          ),
        )
      : [h("p", "No measurements here yet; ", h("code", "python -m benchmarks run"), " makes them.")]),
  );
}

/** Text without the marks of Markdown, which the tables come from. */
const plain = (text) => text.replace(/[`*]/g, "");
