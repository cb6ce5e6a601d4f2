// Order

function renderOrder() {
  const { chain, plans } = state.data;
  const factors = chain
    ? [
        h("h3", "The chain"),
        h(
          "ol.chain",
          { "aria-label": "Dimensions of the chain" },
          chain.split(/(?<=\])·/).map((factor) => h("li", factor)),
        ),
      ]
    : [];
  const plan = ({ title, costs, order }) => {
    const least = Math.min(...costs.map((cost) => number(cost.multiplies)));
    const most = Math.max(...costs.map((cost) => number(cost.multiplies)));
    const rows = costs.map((cost) => [
      cost.chosen ? `${cost.name} ✓ chosen` : cost.name,
      [grouped(cost.multiplies), track(number(cost.multiplies) / (most || 1))],
      least ? (number(cost.multiplies) / least).toFixed(2) : "1.00",
      bytes(cost.peak_bytes),
    ]);
    return h(
      "div",
      table(title, [["order"], ["multiplications"], ["of the least", true], ["peak memory", true]], rows, {
        chosen: costs.findIndex((cost) => cost.chosen),
      }),
      order.length
        ? [
            h("h3", "Multiplied in this order"),
            h(
              "ol.steps",
              order.map((name) => h("li", name)),
            ),
          ]
        : note("Nothing lies between input and output."),
    );
  };
  body("order").replaceChildren(...factors, h("div.columns", plans.map(plan)));
}

const track = (share) => h("span.track", h("span.bar", { style: `width:${100 * share}%` }));
