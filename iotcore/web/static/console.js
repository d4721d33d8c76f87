// The console: pieces of HTML come from the server, drawn by the templates that drew the page; here they find their place.

import { everySecond, follow, isStale } from "./stream.js";

const CONFIRM_MS = 5000;
const SLOW_MS = 5000;
const BANNER_MS = 5000;
const lists = { open: document.getElementById("open"), closed: document.getElementById("closed") };
const devices = document.getElementById("devices");
const filter = document.getElementById("filter");
const announce = document.getElementById("announce");
const title = document.title;

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

function put(html, listOf) {
  const fresh = element(html);
  const old = document.getElementById(fresh.id);
  const list = listOf(fresh);
  if (old && old.parentElement === list) {
    const held = old.contains(document.activeElement) && document.activeElement.tagName;
    old.replaceWith(fresh);
    if (held) {
      fresh.querySelector(held)?.focus();
    }
  } else {
    old?.remove();
    const after = list === devices ? [...list.children].find((child) => child.id > fresh.id) : null;
    list === lists.closed ? list.prepend(fresh) : list.insertBefore(fresh, after ?? null);
  }
}

function incidents({ set, gone }) {
  for (const piece of set) {
    const isNew = !document.getElementById(`incident-${piece.id}`);
    put(piece.html, (item) => lists[item.dataset.list]);
    const card = document.getElementById(`incident-${piece.id}`);
    if (isNew && card.matches(".burning")) {
      announce.textContent = `${card.querySelector(".what strong").textContent} – ${card.querySelector("h3").textContent}`;
    }
  }
  gone.forEach((id) => document.getElementById(`incident-${id}`)?.remove());
}

function rows({ set, gone }) {
  set.forEach((piece) => put(piece.html, () => devices));
  gone.forEach((id) => document.getElementById(`device-${id}`)?.remove());
  sift();
}

function status({ set }) {
  for (const piece of set) {
    document.getElementById("status-holder").innerHTML = piece.html;
    document.getElementById("blind").hidden = !piece.blind;
    document.getElementById("stalled").hidden = !piece.stalled;
    document.getElementById("dark").hidden = !piece.dark;
  }
}

function everything(all) {
  [lists.open, lists.closed, devices].forEach((list) => list.replaceChildren());
  incidents({ set: all.incidents, gone: [] });
  rows({ set: all.devices, gone: [] });
  status({ set: all.status });
}

function sift() {
  const wanted = new FormData(filter);
  const text = wanted.get("text").trim().toLocaleLowerCase();
  let shown = 0;
  for (const row of devices.children) {
    const hidden =
      (wanted.get("class") && row.dataset.class !== wanted.get("class")) ||
      (wanted.get("faults") && row.matches(".ok:not(.silent), .waiting")) ||
      (text && !row.textContent.toLocaleLowerCase().includes(text));
    row.hidden = Boolean(hidden);
    shown += hidden ? 0 : 1;
  }
  document.getElementById("no-device").hidden = shown > 0;
}

function settle(at) {
  const open = lists.open.children.length;
  const burning = lists.open.querySelectorAll(".burning").length;
  document.getElementById("open-count").textContent = open;
  document.getElementById("calm").hidden = open > 0 || isStale() || !document.getElementById("blind").hidden;
  document.getElementById("closed-part").hidden = lists.closed.children.length === 0;
  document.body.classList.toggle("is-burning", burning > 0);
  document.title = open ? `(${open}) ${document.getElementById("incidents-title").firstChild.textContent.trim()} – ${title}` : title;
  for (const row of devices.querySelectorAll("[data-seen]")) {
    const silent = at - Number(row.dataset.seen) > Number(row.dataset.silent);
    row.classList.toggle("silent", silent);
    row.querySelector(".silent-word").hidden = !silent;
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form === filter || form.matches(".act")) {
    event.preventDefault();
  }
  if (!form.matches(".act")) {
    return;
  }
  const button = form.querySelector("button");
  const said = form.querySelector("[role=status]");
  if (form.dataset.confirm && !form.dataset.asked) {
    const text = button.textContent;
    form.dataset.asked = "yes";
    button.textContent = form.dataset.confirm;
    setTimeout(() => { delete form.dataset.asked; button.textContent = text; }, CONFIRM_MS);
    return;
  }
  button.disabled = true;
  said.textContent = form.dataset.sent;
  try {
    const response = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
    if (!response.ok) {
      said.textContent = response.status === 403 ? form.dataset.forbidden : form.dataset.failed;
      button.disabled = false;
      return;
    }
    setTimeout(() => { said.textContent = form.dataset.slow; button.disabled = false; }, SLOW_MS);
  } catch {
    said.textContent = form.dataset.failed;
    button.disabled = false;
  }
});

async function banner() {
  if (isStale()) {
    return;
  }
  try {
    const response = await fetch("/outages/banner", { headers: { Accept: "text/html" } });
    if (response.ok) {
      document.getElementById("out").replaceWith(element(await response.text()));
    }
  } catch {
    // the live stream says that the page is stale
  }
}

setInterval(banner, BANNER_MS);
filter.addEventListener("input", sift);
follow({ everything, incidents, devices: rows, status, tick: settle });
everySecond(settle);
sift();
