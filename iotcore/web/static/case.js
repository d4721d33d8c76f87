// An incident's page: drawn by the server, drawn again every few seconds; what ends an incident is pressed twice, and not before
// this is here to ask for the second press.

import { everySecond, follow, isStale } from "./stream.js";

const AGAIN_MS = 2000;
const CONFIRM_MS = 5000;
const part = document.getElementById("case");

function open() {
  for (const button of part.querySelectorAll("[data-twice] button")) {
    button.disabled = false;
  }
}

open();
follow({});
everySecond();
setInterval(async () => {
  if (isStale() || document.hidden || part.querySelector("[data-asked]")) {
    return;
  }
  try {
    const response = await fetch(part.dataset.at, { headers: { Accept: "text/html" } });
    if (response.ok && !part.querySelector("[data-asked]")) {
      part.innerHTML = await response.text();
      open();
    }
  } catch {
    // the live stream says that the page is stale
  }
}, AGAIN_MS);

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-twice]") || form.dataset.asked) {
    return;
  }
  event.preventDefault();
  const button = form.querySelector("button");
  const text = button.textContent;
  form.dataset.asked = "yes";
  button.textContent = part.dataset.again;
  setTimeout(() => { delete form.dataset.asked; button.textContent = text; }, CONFIRM_MS);
});
