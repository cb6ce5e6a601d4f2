// Order

function renderOrder() {
  const { chain, plans } = state.data;
  const factors = chain
    ? [
        h("h3", say("The chain")),
        h(
          "ol.chain",
          { "aria-label": say("Dimensions of the chain") },
          chain.split(/(?<=\])·/).map((factor) => h("li", factor)),
        ),
      ]
    : [];
  const plan = ({ title, costs, order }) => {
    const least = Math.min(...costs.map((cost) => number(cost.multiplies)));
    const most = Math.max(...costs.map((cost) => number(cost.multiplies)));
    const rows = costs.map((cost) => [
      cost.chosen ? `${computed(cost.name)} ✓ ${say("chosen")}` : computed(cost.name),
      [grouped(cost.multiplies), track(number(cost.multiplies) / (most || 1))],
      least ? (number(cost.multiplies) / least).toFixed(2) : "1.00",
      bytes(cost.peak_bytes),
    ]);
    const heads = [[say("order")], [say("multiplications")], [say("of the least"), true], [say("peak memory"), true]];
    return h(
      "div",
      table(computed(title), heads, rows, { chosen: costs.findIndex((cost) => cost.chosen) }),
      order.length
        ? [
            h("h3", say("Multiplied in this order")),
            h(
              "ol.steps",
              order.map((name) => h("li", name)),
            ),
          ]
        : note(say("Nothing lies between input and output.")),
    );
  };
  body("order").replaceChildren(...factors, h("div.columns", plans.map(plan)));
}

const track = (share) => h("span.track", h("span.bar", { style: `width:${100 * share}%` }));
