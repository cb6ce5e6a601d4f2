// How a training descends: its optimizer and learning rate

const RATES = { adam: 0.02, sgd: 0.2, momentum: 0.05 }; // where no other is asked for
const MOST_RATE = 100;

/** How the page calls the optimizers. */
const optimizerNames = () => ({
  adam: "Adam",
  sgd: say("gradient descent"),
  momentum: say("gradient descent with momentum"),
});

const isRate = (text) => /^\d*\.?\d*(e[-+]?\d+)?$/i.test(text) && Number(text) > 0 && Number(text) <= MOST_RATE;

/** The choice of the optimizer and its rate. */
function descentChoice() {
  const { optimizer } = state.learned;
  const change = ({ target }) => {
    learn({ optimizer: target.value, rate: RATES[target.value] });
    one('#training [name="optimizer"]').focus();
  };
  const read = (typed) => {
    const text = typed.trim().replace(",", "."); // a decimal comma
    return isRate(text) ? Number(text) : null;
  };
  const refusal = () => say("The learning rate must be a number above 0 and up to {most}.", { most: MOST_RATE });
  return [
    choice(say("optimizer"), "optimizer", Object.entries(optimizerNames()), optimizer, change),
    typedChoice(say("learning rate"), "rate", { inputmode: "decimal", size: 6 }, read, refusal),
  ];
}

/** What differs from Adam at its own rate, for a question and for the address. */
function descentSettings() {
  const { optimizer, rate } = state.learned;
  return { ...(optimizer !== "adam" && { optimizer }), ...(rate !== RATES[optimizer] && { rate }) };
}

const shownDescent = () => ({ optimizer: null, rate: null, ...descentSettings() });

/** What the address asks for. */
function restoredDescent(fits) {
  const optimizer = part("optimizer", fits(oneOf(Object.keys(RATES))));
  const rate = part("rate", fits(isRate));
  if (!optimizer && !rate) return {};
  return { optimizer: optimizer ?? "adam", rate: rate ? Number(rate) : RATES[optimizer] };
}
