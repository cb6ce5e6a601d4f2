// Pictures to keep

const INSIDE = "color fill fill-opacity stroke stroke-width stroke-dasharray stroke-linejoin paint-order opacity".split(" ");
const OF_TEXT = ["font-family", "font-size", "font-weight", "font-style", "text-anchor"];
const MARGIN = 8; // around a picture
const DENSITY = 2; // pixels of a PNG for a pixel of the picture

/** A copy of a picture that opens by itself, with the colours and fonts that it has now, on the page's ground. */
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const everything = (one) => [one, ...one.querySelectorAll("*")];
  const copies = everything(copy);
  everything(svg).forEach((element, i) => {
    const style = getComputedStyle(element);
    const names = /^t/.test(element.tagName) ? [...INSIDE, ...OF_TEXT] : INSIDE;
    for (const { name } of [...copies[i].attributes]) {
      if (/^(class|style|role|tabindex|aria-|data-)/.test(name)) copies[i].removeAttribute(name);
    }
    copies[i].setAttribute("style", names.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
  });
  const cursor = copies[everything(svg).indexOf(one(".cursor", svg))];
  cursor?.remove();
  const [x, y, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const all = { x: x - MARGIN, y: y - MARGIN, width: Math.ceil(width) + 2 * MARGIN, height: Math.ceil(height) + 2 * MARGIN };
  copy.setAttribute("viewBox", Object.values(all).join(" "));
  copy.setAttribute("width", all.width);
  copy.setAttribute("height", all.height);
  const ground = h("rect", { ...all, fill: getComputedStyle(document.body).backgroundColor });
  copy.prepend(h("title", svg.getAttribute("aria-label")), ground);
  return { text: new XMLSerializer().serializeToString(copy), width: all.width, height: all.height };
}

/** The pixels of a picture, as the content of a PNG file. */
async function pixels({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = h("canvas", { width: DENSITY * width, height: DENSITY * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Hands a picture to the browser as a file. */
async function save(svg, title, kind) {
  const picture = standalone(svg);
  const content = kind === "PNG" ? await pixels(picture) : new Blob([picture.text], { type: "image/svg+xml" });
  const words = title.normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^A-Za-z0-9]+/g, "-");
  const name = `jaxnets-${words.replace(/^-|-$/g, "").toLowerCase()}.${kind.toLowerCase()}`;
  const address = URL.createObjectURL(content);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  tell(say("Saved as {name}", { name }));
}

/** The two buttons below a picture. */
const saving = (svg, title) =>
  h(
    "div.save.controls",
    ["SVG", "PNG"].map((kind) =>
      button(kind, () => save(svg, title, kind), { "aria-label": say("Save as {kind}: {title}", { kind, title }) }),
    ),
  );
