"use strict";
(() => {
  const cells = new Map(JSON.parse(document.getElementById("data").textContent).map((c) => [c.anchor, c]));
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  all(".tools, .copy").forEach((element) => { element.hidden = false; });

  // Deep links: open everything around the target, then go there.
  const reveal = () => {
    const target = $(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.scrollIntoView({ block: "start" });
    if (target.classList.contains("body")) target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) reveal();
  });
  reveal();

  // Filter: what does not match is dimmed in a matrix, and hidden in lists.
  const text = $("f-text"), word = $("f-word"), profile = $("f-profile");
  const matches = (cell) =>
    text.value.toLowerCase().split(/\s+/).every((part) => cell.text.includes(part)) &&
    (!word.value || (word.value === "surprise" ? cell.surprise : cell.slug === word.value)) &&
    (!profile.value || cell.profile === profile.value);
  const filter = () => {
    const active = text.value.trim() || word.value || profile.value;
    const on = new Set([...cells.values()].filter(matches).map((c) => c.anchor));
    all("[data-c]").forEach((e) => e.classList.toggle(e.tagName === "TD" ? "off" : "gone", !on.has(e.dataset.c)));
    all("td[data-w]").forEach((e) => e.classList.toggle("off", Boolean(active) &&
      (text.value.trim() !== "" || e.dataset.w !== word.value || (profile.value && e.dataset.p !== profile.value))));
    all("#matrix .matrix tbody tr:not(.group)").forEach((row) =>
      row.classList.toggle("gone", Boolean(active) && !row.querySelector("td:not(.off)")));
    all("#matrix .matrix tbody").forEach((body) =>
      body.classList.toggle("gone", !body.querySelector("tr:not(.group):not(.gone)")));
    all("section.scenario").forEach((section) =>
      section.classList.toggle("gone", !section.querySelector(".matrix tbody tr:not(.group):not(.gone)")));
    $("f-count").textContent = active ? `${on.size} of ${cells.size} cells` : "";
  };
  text.addEventListener("input", filter);
  [word, profile].forEach((control) => control.addEventListener("change", filter));
  text.form.addEventListener("reset", () => setTimeout(filter));
  all("form").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));

  // Sort the list of all cells.
  all(".sortable thead th").forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all(".sortable thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const key = (row) => row.cells[index].dataset.v ?? row.cells[index].textContent;
      body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * key(a).localeCompare(key(b))));
    });
  });

  // Two settings side by side.
  const axis = $("c-axis"), one = $("c-one"), other = $("c-other");
  const token = (cell, name) => (name === "broker profile" ? cell.profile : cell.params[name]);
  const fill = (select, values) => select.replaceChildren(...values.map((v) => new Option(v, v)));
  const axes = new Map([["broker profile", new Set()]]);
  cells.forEach((cell) => {
    axes.get("broker profile").add(cell.profile);
    cell.settings.forEach((name) => {
      if (!axes.has(name)) axes.set(name, new Set());
      axes.get(name).add(cell.params[name]);
    });
  });
  const place = (cell, name) => JSON.stringify([cell.scenario, name === "broker profile" ? "" : cell.profile,
    Object.entries(cell.params).filter(([key]) => key !== name), cell.variant]);
  const badge = (cell) => {
    const link = document.createElement("a");
    link.href = `#${cell.anchor}`;
    link.className = `badge ${cell.slug}`;
    link.textContent = `${cell.symbol} ${cell.word} ${cell.k}/${cell.n}`;
    return link;
  };
  const compare = () => {
    const name = axis.value, found = new Map();
    cells.forEach((cell) => { if (token(cell, name) === one.value) found.set(place(cell, name), [cell]); });
    cells.forEach((cell) => { if (token(cell, name) === other.value) found.get(place(cell, name))?.push(cell); });
    const pairs = [...found.values()].filter((pair) => pair.length === 2);
    const changed = pairs.filter(([a, b]) => a.word !== b.word);
    $("c-head-one").textContent = one.value;
    $("c-head-other").textContent = other.value;
    $("c-count").textContent = `${changed.length} of ${pairs.length} cells that have both change`;
    $("c-body").replaceChildren(...changed.map(([a, b]) => {
      const row = document.createElement("tr");
      const rest = Object.entries(a.params).filter(([key]) => key !== name).map(([, value]) => value);
      const where = [a.scenario, ...(name === "broker profile" ? [] : [a.profile]), ...rest, a.variant];
      row.append(...[where.filter(Boolean).join(" · "), badge(a), badge(b)].map((content) => {
        const cell = document.createElement("td");
        cell.append(content);
        return cell;
      }));
      return row;
    }));
  };
  const choose = () => {
    const tokens = [...axes.get(axis.value)];
    fill(one, tokens);
    fill(other, tokens);
    other.selectedIndex = Math.min(1, tokens.length - 1);
    compare();
  };
  fill(axis, [...axes.keys()].filter((name) => axes.get(name).size > 1));
  if (axes.has("acknowledgement") && axes.get("acknowledgement").size > 1) axis.value = "acknowledgement";
  if (axis.value) {
    axis.addEventListener("change", choose);
    [one, other].forEach((select) => select.addEventListener("change", compare));
    choose();
  } else {
    document.querySelector(".compare").hidden = true;
  }

  // Copy a command.
  document.addEventListener("click", async (event) => {
    if (!event.target.matches(".copy")) return;
    const command = event.target.previousElementSibling;
    getSelection().selectAllChildren(command);
    try {
      await navigator.clipboard.writeText(command.textContent);
      event.target.textContent = "Copied";
    } catch { /* not allowed here: it is selected, Ctrl-C copies it */ }
  });
})();
