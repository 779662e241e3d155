// Other versions of the site lie beside this one, in folders that versions.json there lists, as in
// ["0.2.0", "0.1.0"]. Where there is none, as in a build on a disk, this version stands alone.
const versions = document.getElementById("versions");

async function listVersions() {
  const root = new URL(versions.dataset.root || "./", document.baseURI);
  const own = versions.value;
  if (root.protocol === "file:") return;
  const answer = await fetch(new URL("../versions.json", root)).catch(() => null);
  if (!answer?.ok) return;
  const names = await answer.json();
  versions.replaceChildren(
    ...names.map((name) => new Option(name, name, name === own, name === own)),
  );
  versions.addEventListener("change", () => {
    const page = document.baseURI.slice(root.href.length);
    location.href = new URL(`../${versions.value}/${page}`, root).href;
  });
}

if (versions) listVersions();
