// Points from a CSV file

const SEPARATORS = [",", ";", "\t"]; // of columns; where it is no comma, a number may have a decimal comma
const HEAD = "x1,x2,label";
const MOST_POINTS = 5000;
const MOST_LABELS = 5;

/** The points in the text of a CSV file, or what is wrong with it in one line. Labels may be any words. */
function readPoints(text) {
  const [head, ...rest] = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const count = (separator) => head.split(separator).length;
  const separator = SEPARATORS.reduce((best, other) => (count(other) > count(best) ? other : best));
  const cells = (line) => line.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
  if (cells(head).join() !== HEAD) return { problem: say("CSV: the first line must be {head}", { head: HEAD }) };
  const lines = rest.map((line, i) => [line, i + 2]).filter(([line]) => line.trim());
  if (!lines.length) return { problem: say("CSV: there are no points below the first line") };
  if (lines.length > MOST_POINTS) {
    return { problem: say("CSV: {count} points, at most {most}", { count: lines.length, most: MOST_POINTS }) };
  }
  const value = (cell) => (cell === "" ? NaN : Number(separator === "," ? cell : cell.replace(",", ".")));
  const rows = lines.map(([line]) => cells(line));
  const fits = ([x, y, label, ...more]) =>
    label && !more.length && [x, y].every((cell) => Math.abs(value(cell)) <= 1e6);
  const wrong = rows.findIndex((row) => !fits(row));
  if (wrong >= 0) {
    const [line, n] = lines[wrong];
    return { problem: say("CSV, line {n}: expected two numbers and a label, got {line}", { n, line: line.slice(0, 40) }) };
  }
  const labels = [...new Set(rows.map(([, , label]) => label))].sort(new Intl.Collator("en", { numeric: true }).compare);
  if (labels.length > MOST_LABELS) {
    return { problem: say("CSV: {count} different labels, at most {most}", { count: labels.length, most: MOST_LABELS }) };
  }
  const digits = (cell) => Number(value(cell).toPrecision(6));
  return { points: rows.map(([x, y, label]) => [digits(x), digits(y), labels.indexOf(label) + 1]) };
}
