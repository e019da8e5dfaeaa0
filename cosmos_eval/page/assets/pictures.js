// Galleries, attention maps and whatever else lies below the folder as a picture; each opens larger.

/** An image of ours; anything but a picture inside the page is refused by the page's policy, and here. */
function picture(one, lazy) {
  const isInside = /^data:image\/(png|jpeg|webp);base64,/.test(one.source);
  return el("img", {
    src: isInside ? one.source : null,
    alt: wordsOf(one.path),
    width: one.width,
    height: one.height,
    loading: lazy ? "lazy" : null,
    decoding: "async",
  });
}

const folderOf = (path) => path.split("/").slice(0, -1).join("/");
const nameOf = (path) => path.split("/").pop();
const wordsOf = (path) =>
  nameOf(path)
    .replace(/\.[^.]*$/, "")
    .replace(/[-_]+/g, " ");

function pictureSection() {
  if (!data.pictures.length) return null;
  const byFolder = new Map();
  for (const one of data.pictures) byFolder.set(folderOf(one.path), [...(byFolder.get(folderOf(one.path)) ?? []), one]);
  const open = (one) => openDialog(one.path, "picture", picture(one, false));
  const albums = [...byFolder].map(([folder, some]) => [
    el("h3", {}, folder || "In the folder itself"),
    el(
      "div",
      { class: "gallery" },
      some.map((one) =>
        el(
          "figure",
          {},
          el(
            "button",
            { type: "button", class: "thumb", "aria-label": `Show ${one.path} larger`, onclick: () => open(one) },
            picture(one, true),
          ),
          el("figcaption", {}, wordsOf(one.path), el("small", {}, nameOf(one.path))),
        ),
      ),
    ),
  ]);
  return section(
    "pictures",
    "Pictures",
    el("p", {}, "Galleries and maps that lie below the folder, made smaller to fit in this page."),
    albums.flat(),
  );
}
