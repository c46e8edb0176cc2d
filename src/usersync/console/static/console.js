// Follows new events, and moves by keyboard. The pages work without it.
"use strict";

const MOST_ROWS = 200;

function follow(place) {
  const button = place.querySelector("button");
  const status = place.querySelector("[role=status]");
  let source = null;
  let count = 0;
  place.hidden = false;

  function show(text) {
    status.textContent = text;
  }

  function stop() {
    source.close();
    source = null;
    button.setAttribute("aria-pressed", "false");
    show("");
  }

  function start() {
    count = 0;
    source = new EventSource(place.dataset.stream);
    button.setAttribute("aria-pressed", "true");
    show("Connecting.");
    source.addEventListener("begin", () => show(`Following. ${count} new.`));
    source.onerror = () => show("Not connected. Trying again.");
    source.onmessage = (message) => {
      const rows = document.querySelector("#content tbody");
      if (!rows) {
        location.reload();
        return;
      }
      const held = document.createElement("template");
      held.innerHTML = message.data; // A row that the server has rendered and escaped.
      rows.prepend(held.content);
      while (rows.rows.length > MOST_ROWS) {
        rows.rows[rows.rows.length - 1].remove();
      }
      count += 1;
      show(`Following. ${count} new.`);
    };
  }

  button.addEventListener("click", () => (source ? stop() : start()));
}

function move(step) {
  const links = [...document.querySelectorAll("#content tbody th a, #content section h2 a")];
  if (links.length) {
    const at = links.indexOf(document.activeElement);
    const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
    links[Math.min(Math.max(next, 0), links.length - 1)].focus();
  }
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
