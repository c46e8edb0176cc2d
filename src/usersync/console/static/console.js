// Follows new events, and moves by keyboard. The pages work without it.
"use strict";

const MOST_ROWS = 200;
// So much of a histogram's width, at its right end, belongs to the last bar at least.
const EDGE = 3;

function follow(place) {
  const button = place.querySelector("button");
  const status = place.querySelector("[role=status]");
  let source = null;
  let count = 0;
  let missed = "";
  place.hidden = false;

  function show(text) {
    status.textContent = text;
  }

  function tell() {
    show(`Following. ${count} new.${missed}`);
  }

  function stop() {
    source.close();
    source = null;
    button.setAttribute("aria-pressed", "false");
    show("");
  }

  function start() {
    count = 0;
    missed = "";
    source = new EventSource(place.dataset.stream);
    button.setAttribute("aria-pressed", "true");
    show("Connecting.");
    source.addEventListener("begin", tell);
    source.addEventListener("missed", () => {
      missed = " Some new events are missing: load the page again.";
      tell();
    });
    source.onerror = () => show("Not connected. Trying again.");
    source.onmessage = (message) => {
      const rows = document.querySelector("#content .events tbody");
      if (!rows) {
        location.reload();
        return;
      }
      const held = document.createElement("template");
      held.innerHTML = message.data; // A row that the server has rendered and escaped.
      // After a lost connection, the server may send a row again.
      const link = held.content.querySelector("th a");
      if (link && [...rows.querySelectorAll("th a")].some((each) => each.href === link.href)) {
        return;
      }
      showTimes(held.content);
      rows.prepend(held.content);
      while (rows.rows.length > MOST_ROWS) {
        rows.rows[rows.rows.length - 1].remove();
      }
      count += 1;
      tell();
    };
  }

  button.addEventListener("click", () => (source ? stop() : start()));
}

function move(step) {
  const links = [...document.querySelectorAll("#content tbody th a, #content section :is(h2, h3) a")]
    .filter((link) => !link.closest("details:not([open])"));
  if (links.length) {
    const at = links.indexOf(document.activeElement);
    const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
    links[Math.min(Math.max(next, 0), links.length - 1)].focus();
  }
}

// Dragging over the bars of a histogram shows the events of that time.
function choose(chart) {
  const bars = [...chart.querySelectorAll("rect")];
  if (!bars.length) {
    return;
  }
  const [start, end] = [(bar) => Number(bar.dataset.start), (bar) => Number(bar.dataset.end)];
  const mark = document.createElementNS(chart.namespaceURI, "rect");
  let first = null;
  let last = null;
  document.querySelectorAll(".drag").forEach((note) => (note.hidden = false));

  function barAt(event) {
    const box = chart.getBoundingClientRect();
    const width = chart.viewBox.baseVal.width;
    const at = ((event.clientX - box.left) / box.width) * width;
    // The last bar ends now, so at the start of an hour it is narrower than a pixel.
    return bars.find((bar) => at < Math.min(end(bar), width - EDGE)) || bars[bars.length - 1];
  }

  function sorted() {
    return bars.indexOf(first) <= bars.indexOf(last) ? [first, last] : [last, first];
  }

  function show(event) {
    last = barAt(event);
    const [from, to] = sorted();
    mark.setAttribute("x", start(from));
    mark.setAttribute("width", end(to) - start(from));
  }

  function stop() {
    mark.remove();
    first = null;
  }

  mark.setAttribute("class", "chosen");
  mark.setAttribute("height", chart.viewBox.baseVal.height);
  chart.addEventListener("pointerdown", (event) => {
    if (event.button === 0) {
      first = barAt(event);
      chart.setPointerCapture(event.pointerId);
      show(event);
      chart.append(mark);
      event.preventDefault();
    }
  });
  chart.addEventListener("pointermove", (event) => first && show(event));
  chart.addEventListener("pointercancel", stop);
  chart.addEventListener("pointerup", () => {
    if (first) {
      const [from, to] = sorted();
      stop();
      const url = new URL(location.href);
      url.searchParams.set("since", from.dataset.since);
      url.searchParams.set("until", to.dataset.until);
      url.searchParams.delete("after");
      location.assign(url);
    }
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key === "/") {
    const field = document.querySelector("form[role=search] input");
    if (field) {
      field.focus();
      event.preventDefault();
    }
  } else if (event.key === "j") {
    move(1);
  } else if (event.key === "k") {
    move(-1);
  }
});

document.querySelectorAll("[data-stream]").forEach(follow);
document.querySelectorAll(".histogram").forEach(choose);
