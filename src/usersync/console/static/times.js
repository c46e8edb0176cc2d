// Shows times relative to now, and keeps them true while the page is open. Without it, pages show exact times.
"use strict";

const UNITS = [["year", 31556952, 730 * 86400], ["month", 2629746, 60 * 86400], ["day", 86400, 86400], ["hour", 3600, 3600], ["minute", 60, 60]];
const WORDS = new Intl.RelativeTimeFormat("en");
const KEPT = "usersync-exact-times";
// How often the texts are renewed. The shortest unit is a minute.
const EVERY_MS = 10000;

// The clock of the server at the time of the page. The clock of this computer may be wrong.
const BEHIND_MS = Date.parse(document.documentElement.dataset.now) - Date.now();

function relative(at) {
  const seconds = (at - Date.now() - BEHIND_MS) / 1000;
  for (const [unit, size, least] of UNITS) {
    if (Math.abs(seconds) >= least) {
      return WORDS.format(Math.trunc(seconds / size), unit);
    }
  }
  return seconds > 0 ? "in less than a minute" : "less than a minute ago";
}

// Beside the exact time, not instead of it: the style sheet shows one of them, or both.
function showTimes(within) {
  for (const time of within.querySelectorAll("time")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) {
      continue;
    }
    let words = time.querySelector(".ago");
    if (!words) {
      const exact = document.createElement("span");
      exact.className = "exact";
      exact.append(...time.childNodes);
      words = document.createElement("span");
      words.className = "ago";
      time.append(exact, words);
    }
    words.textContent = relative(at);
  }
}

// The choice holds for all pages of this browser, unless it forbids to keep anything.
function kept(value) {
  try {
    if (value === undefined) {
      return localStorage.getItem(KEPT) === "true";
    }
    localStorage.setItem(KEPT, value);
  } catch {
    // Such as in a frame of another site.
  }
  return false;
}

function startTimes() {
  const root = document.documentElement;
  const button = document.querySelector(".times button");
  let isExact = kept();

  function show(exact) {
    root.classList.toggle("relative", !exact);
    button.setAttribute("aria-pressed", exact);
  }

  function choose() {
    isExact = !isExact;
    kept(isExact);
    show(isExact);
  }

  showTimes(document);
  show(isExact);
  button.parentElement.hidden = false;
  button.addEventListener("click", choose);
  setInterval(() => showTimes(document), EVERY_MS);
  document.addEventListener("visibilitychange", () => showTimes(document));
  addEventListener("pageshow", () => showTimes(document));
  // What leaves the page has the exact times: a relative one would be wrong later.
  addEventListener("beforeprint", () => show(true));
  addEventListener("afterprint", () => show(isExact));
  document.addEventListener("copy", () => {
    show(true);
    setTimeout(() => show(isExact));
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key === "t" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      choose();
    }
  });
}

// A page that was saved to a file stays as it was: exact.
if (location.protocol.startsWith("http")) {
  startTimes();
} else {
  document.documentElement.classList.remove("relative");
}
