// Galleries, attention maps and all other images below the folder; each opens larger.

/** An img element. Only embedded images are shown: the content security policy refuses all others, and so does this. */
function imageNode(image, lazy) {
  const isInside = /^data:image\/(png|jpeg|webp);base64,/.test(image.source);
  return el("img", {
    src: isInside ? image.source : null,
    alt: wordsOf(image.path),
    width: image.width,
    height: image.height,
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
  for (const image of data.images)
    byFolder.set(folderOf(image.path), [...(byFolder.get(folderOf(image.path)) ?? []), image]);
  const open = (image) => openDialog(image.path, "image", imageNode(image, false));
  const albums = [...byFolder].map(([folder, images]) => [
    el("h3", {}, folder || "In the folder itself"),
    el(
      "div",
      { class: "gallery" },
      images.map((image) =>
        el(
          "figure",
          {},
          el(
            "button",
            { type: "button", class: "thumb", "aria-label": `Show ${image.path} larger`, onclick: () => open(image) },
            imageNode(image, true),
          ),
          el("figcaption", {}, wordsOf(image.path), el("small", {}, nameOf(image.path))),
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
