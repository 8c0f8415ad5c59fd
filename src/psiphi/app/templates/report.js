(function () {
  "use strict";

  // The contents beside the text say where the reader is.
  function follow() {
    var links = {}, seen = {}, order = [];
    document.querySelectorAll(".side li a").forEach(function (a) {
      var id = a.hash.slice(1);
      links[id] = a;
      order.push(id);
    });
    if (!("IntersectionObserver" in window)) return;
    var watch = new IntersectionObserver(function (entries) {
      entries.forEach(function (e) { seen[e.target.id] = e.isIntersecting; });
      var now = order.filter(function (id) { return seen[id]; })[0];
      if (!now) return;
      order.forEach(function (id) {
        if (id === now) links[id].setAttribute("aria-current", "true");
        else links[id].removeAttribute("aria-current");
      });
    }, { rootMargin: "-15% 0px -70% 0px" });
    order.forEach(function (id) {
      var section = document.getElementById(id);
      if (section) watch.observe(section);
    });
  }

  // A number in a cell: data-v where it is given, else the text as people write numbers.
  function valueOf(cell) {
    var told = cell.getAttribute("data-v");
    if (told !== null) return told === "" ? null : parseFloat(told);
    var text = cell.textContent.trim().replace(/\u2212/g, "-").replace(/,/g, "");
    var found = parseFloat(text);
    return isNaN(found) ? null : found;
  }

  function sortable(table) {
    var body = table.tBodies[0], heads = table.tHead.rows[0].cells;
    var original = Array.prototype.slice.call(body.rows);
    var said = document.createElement("p");
    said.className = "unseen";
    said.setAttribute("aria-live", "polite");
    table.parentNode.insertAdjacentElement("afterend", said);
    Array.prototype.forEach.call(heads, function (head, column) {
      if (!head.textContent.trim()) return;
      var name = head.textContent.trim(), button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var state = head.getAttribute("aria-sort");
        var next = state === "ascending" ? "descending" : state === "descending" ? null : "ascending";
        Array.prototype.forEach.call(heads, function (each) { each.removeAttribute("aria-sort"); });
        if (next) head.setAttribute("aria-sort", next);
        order(column, next).forEach(function (row) { body.appendChild(row); });
        said.textContent = next ? "Sorted by " + name + ", " + next + "." : "In the order of the page.";
      });
    });
    // Cells without a number stay last, either way.
    function order(column, how) {
      if (!how) return original;
      var sign = how === "ascending" ? 1 : -1, numeric = heads[column].classList.contains("n");
      return original.slice().sort(function (a, b) {
        var one = a.cells[column], two = b.cells[column];
        if (!numeric) return sign * one.textContent.trim().localeCompare(two.textContent.trim());
        var x = valueOf(one), y = valueOf(two);
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (x - y);
      });
    }
  }

  // The plane of codes: a place on it, by hand or by the two sliders, and what is decoded there.
  function pad(root) {
    var told = JSON.parse(root.querySelector("script").textContent);
    var map = root.querySelector("svg"), mark = root.querySelector(".place"), picture = root.querySelector(".decoded");
    var sliders = root.querySelectorAll("input"), words = root.querySelector("output");
    var n = told.n, low = told.low, high = told.high;
    function show() {
      var i = +sliders[0].value, j = +sliders[1].value, step = (high - low) / (n - 1);
      var at = [low + i * step, low + j * step].map(function (z) { return z.toFixed(2).replace("-", "\u2212"); });
      mark.setAttribute("transform", "translate(" + 100 * (i / (n - 1)) + " " + 100 * (1 - j / (n - 1)) + ")");
      picture.style.backgroundPosition = 100 * (i / (n - 1)) + "% " + 100 * (1 - j / (n - 1)) + "%";
      var k = (n - 1 - j) * n + i, label = told.names[told.labels[k]];
      words.textContent = "z\u2081 = " + at[0] + ", z\u2082 = " + at[1] + ": read as " + label + ", " + told.sure[k] + "% sure";
      sliders[0].setAttribute("aria-valuetext", at[0]);
      sliders[1].setAttribute("aria-valuetext", at[1]);
    }
    function go(event) {
      var box = map.getBoundingClientRect();
      function place(share) { return Math.round(Math.min(1, Math.max(0, share)) * (n - 1)); }
      sliders[0].value = place((event.clientX - box.left) / box.width);
      sliders[1].value = place(1 - (event.clientY - box.top) / box.height);
      show();
    }
    map.addEventListener("pointerdown", function (event) {
      map.setPointerCapture(event.pointerId);
      go(event);
      event.preventDefault();
    });
    map.addEventListener("pointermove", function (event) { if (event.buttons) go(event); });
    sliders.forEach(function (each) { each.addEventListener("input", show); });
    root.hidden = false;
    show();
  }

  follow();
  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll(".pad").forEach(pad);
})();
