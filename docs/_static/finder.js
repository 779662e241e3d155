// Tables of class "finder": columns are sorted by their headings, rows are chosen by words and by
// what some columns hold. A choice can be given in the address, as in find.html?data=HEALPix+grid.
const CHOICES = ["Task", "Data", "Outcome", "CUDA graphs", "ONNX"];

function values(cell) {
  return cell.textContent.split(",").map((value) => value.trim());
}

function compare(left, right) {
  const numbers = [Number(left), Number(right)];
  const both = numbers.every(Number.isFinite);
  return both ? numbers[0] - numbers[1] : left.localeCompare(right);
}

function makeFinder(table) {
  const headings = [...table.tHead.rows[0].cells];
  const names = headings.map((heading) => heading.textContent.trim());
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const given = new URLSearchParams(location.search);

  const bar = document.createElement("form");
  bar.className = "finder-bar";
  const words = Object.assign(document.createElement("input"), {
    type: "search",
    placeholder: "Any words",
    ariaLabel: "Any words",
    value: given.get("q") ?? "",
  });
  const count = Object.assign(document.createElement("output"), { ariaLive: "polite" });
  const choices = CHOICES.map((name) => {
    const column = names.indexOf(name);
    const select = Object.assign(document.createElement("select"), { ariaLabel: name });
    const found = [...new Set(rows.flatMap((row) => values(row.cells[column])))].sort();
    select.append(new Option(`${name}: any`, ""), ...found.map((it) => new Option(it, it)));
    select.value = given.get(name.toLowerCase()) ?? "";
    if (select.selectedIndex < 0) select.value = "";
    return { select, column };
  });
  bar.append(words, ...choices.map((choice) => choice.select), count);

  function choose() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        wanted.every((word) => text.includes(word)) &&
        choices.every(
          ({ select, column }) => !select.value || values(row.cells[column]).includes(select.value),
        )
      );
    }
    count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} models`;
  }

  function sortBy(column) {
    const heading = headings[column];
    const falling = heading.ariaSort === "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.ariaSort = falling ? "descending" : "ascending";
    const text = (row) => row.cells[column].textContent.trim();
    const unknown = (row) => text(row) === "-";
    rows.sort((a, b) => {
      if (unknown(a) || unknown(b)) return unknown(a) - unknown(b); // last, either way
      return falling ? compare(text(b), text(a)) : compare(text(a), text(b));
    });
    body.append(...rows);
  }

  headings.forEach((heading, column) => {
    const button = Object.assign(document.createElement("button"), {
      type: "button",
      textContent: names[column],
    });
    button.addEventListener("click", () => sortBy(column));
    heading.replaceChildren(button);
  });
  bar.addEventListener("input", choose);
  bar.addEventListener("change", choose);
  bar.addEventListener("submit", (event) => event.preventDefault());
  (table.closest(".pst-scrollable-table-container") ?? table).before(bar);
  choose();
}

document.querySelectorAll("table.finder").forEach(makeFinder);
