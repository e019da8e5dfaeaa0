// Galleries, attention maps and all other images below the folder; each opens larger.

/** An img element. Only embedded images are shown: the content security policy refuses all others, and so does this. */
function imageNode(one, lazy) {
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

function imageSection() {
  if (!data.images.length) return null;
  const byFolder = new Map();
  for (const one of data.images) byFolder.set(folderOf(one.path), [...(byFolder.get(folderOf(one.path)) ?? []), one]);
  const open = (one) => openDialog(one.path, "image", imageNode(one, false));
  const albums = [...byFolder].map(([folder, images]) => [
    el("h3", {}, folder || "In the folder itself"),
    el(
      "div",
      { class: "gallery" },
      images.map((one) =>
        el(
          "figure",
          {},
          el(
            "button",
            { type: "button", class: "thumb", "aria-label": `Show ${one.path} larger`, onclick: () => open(one) },
            imageNode(one, true),
          ),
          el("figcaption", {}, wordsOf(one.path), el("small", {}, nameOf(one.path))),
        ),
      ),
    ),
  ]);
  return section(
    "images",
    "Images",
    el("p", {}, "Galleries and maps that lie below the folder, scaled down to fit in this page."),
    albums.flat(),
  );
}
