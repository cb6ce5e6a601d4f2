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

/** The tables come from a page in Markdown. */
const plain = (text) => text.replace(/[`*]/g, "");
