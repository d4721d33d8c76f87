// A technician's page: live while there is a network, and of use without one.

import * as kept from "./kept.js";

const LOOK_MS = 1000;
const SEND_MS = 3000;
const LONGEST_SIDE = 1600; // pixels; the platform keeps no more
const LOCATE_MS = 20_000;
const STATICS = ["style.css", "icon.svg", "commissioning.js", "kept.js"].map((name) => `/static/${name}`);

const live = document.getElementById("live");
const { device, user } = live.dataset;
const here = `/commissioning/${encodeURIComponent(device)}`;
const queue = document.getElementById("queue");
const accept = document.getElementById("accept");
let shown = "";
let sending = false;

const facts = () => document.getElementById("facts").dataset;
const openSteps = () => facts().open.split(",").filter(Boolean);
const seen = (kind) => Number({ location: facts().seenLocation, sign: facts().seenSign }[kind] ?? 0);

async function look() {
  try {
    const response = await fetch(`${here}/steps`);
    document.getElementById("offline").hidden = response.headers.get("X-Kept") !== "yes";
    document.getElementById("signed-out").hidden = response.status !== 401;
    if (response.ok) {
      const text = await response.text();
      if (text !== shown && !live.contains(document.activeElement)) {
        live.innerHTML = text;
        shown = text;
        settle();
      }
    }
  } catch {
    document.getElementById("offline").hidden = false;
  }
}

function settle() {
  const open = openSteps();
  accept.hidden = open.length === 0;
  const names = open.map((step) => live.querySelector(`[data-step="${step}"] b`)?.textContent ?? step);
  const text = accept.querySelector("span");
  text.textContent = `${text.dataset.text} ${names.join(", ")}`;
}

async function small(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
    const canvas = document.querySelector("[data-kind=photo] canvas");
    canvas.width = Math.round(picture.width * scale);
    canvas.height = Math.round(picture.height * scale);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.hidden = false;
    return (await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85))) ?? file;
  } catch {
    return file; // what this browser cannot read, the platform judges
  }
}

const number = (text) => (text.trim() === "" ? null : Number(text.trim().replace(",", ".")));

async function body(kind, form) {
  const told = new FormData(form);
  if (kind === "photo") {
    return small(told.get("photo"));
  }
  if (kind === "location") {
    const accuracy = told.get("accuracy_m");
    return {
      latitude: number(told.get("latitude")), longitude: number(told.get("longitude")),
      accuracy_m: accuracy === "" ? null : Number(accuracy), text: told.get("text").trim(),
    };
  }
  return kind === "remark" ? { text: told.get("text") } : { name: told.get("name").trim(), open: told.get("accept") ? openSteps() : [] };
}

async function tell(form) {
  const kind = form.dataset.kind;
  const entry = { id: kept.name(), user, device, kind, at_ms: Date.now(), seen: seen(kind), body: await body(kind, form), refusal: null };
  await kept.put(entry);
  form.reset();
  await send();
}

// In the order they were told; a signature only after all before it.
async function send() {
  if (sending) {
    return;
  }
  sending = true;
  try {
    for (const entry of await kept.all()) { // what somebody else told on this phone waits for them: it is their word
      const before = (await kept.all()).some((other) => other.device === entry.device && other.order < entry.order);
      if (entry.refusal || entry.user !== user || (entry.kind === "sign" && before)) {
        continue;
      }
      const refusal = await kept.send(entry);
      if (refusal) {
        await kept.put({ ...entry, refusal });
      } else {
        await kept.drop(entry.order);
      }
    }
  } catch {
    // no network: all of it stays, and is sent again
  } finally {
    sending = false;
    await draw();
    await look();
  }
}

async function draw() {
  const mine = (await kept.all()).filter((entry) => entry.device === device);
  document.getElementById("queue-part").hidden = mine.length === 0;
  queue.replaceChildren(...mine.map(row));
}

function row(entry) {
  const item = document.createElement("li");
  item.className = entry.refusal ? "failing" : "waiting";
  const reason = entry.refusal?.reason;
  const known = { conflict: queue.dataset.conflict, open_steps: queue.dataset.open_steps };
  const waiting = entry.user === user ? queue.dataset.waiting : queue.dataset.other.replace("{user}", entry.user);
  const text = reason ? `${known[reason] ?? `${queue.dataset.refused} ${reason}.`} ${entry.refusal.detail}` : waiting;
  const label = document.createElement("b");
  label.textContent = queue.dataset[entry.kind];
  item.append(label, ` ${text}`);
  if (reason) {
    item.append(...(known[reason] ? [button(queue.dataset.mine, () => mineCounts(entry))] : []), button(queue.dataset.drop, () => forget(entry)));
  }
  return item;
}

function button(text, press) {
  const made = document.createElement("button");
  made.className = "second";
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", press);
  return made;
}

async function mineCounts(entry) {
  await look();
  const changed = { ...entry, id: kept.name(), seen: seen(entry.kind), refusal: null };
  if (entry.kind === "sign") {
    changed.body = { ...entry.body, open: openSteps() };
  }
  await kept.put(changed);
  await send();
}

async function forget(entry) {
  await kept.drop(entry.order);
  await send();
}

async function switchMode(form) {
  form.querySelector("button").disabled = true;
  try {
    await fetch(form.action, { method: "POST" });
  } finally {
    document.activeElement?.blur();
    shown = "";
    await look();
  }
}

function locate(button) {
  const said = document.getElementById("located");
  const failed = () => { said.textContent = button.dataset.failed; };
  if (!navigator.geolocation) {
    failed();
    return;
  }
  const taken = ({ coords }) => {
    const form = button.closest("form");
    form.elements.latitude.value = coords.latitude.toFixed(6);
    form.elements.longitude.value = coords.longitude.toFixed(6);
    form.elements.accuracy_m.value = String(Math.round(coords.accuracy));
    said.textContent = `± ${Math.round(coords.accuracy)} m`;
  };
  navigator.geolocation.getCurrentPosition(taken, failed, { enableHighAccuracy: true, timeout: LOCATE_MS });
}

// The page and what it needs are kept at once: the first visit is not yet answered by the worker.
async function prepare() {
  await kept.all();
  await navigator.serviceWorker.register("/commissioning/worker.js");
  await navigator.serviceWorker.ready;
  const store = await caches.open("commissioning-1");
  await store.addAll([here, `${here}/steps`, ...STATICS]);
  document.body.dataset.ready = "yes";
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  form.matches(".mode") ? switchMode(form) : tell(form);
});
document.getElementById("locate").addEventListener("click", (event) => locate(event.target));
window.addEventListener("online", send);
prepare().catch(() => { document.getElementById("no-store").hidden = false; });
settle();
draw().then(send);
setInterval(() => document.hidden || look(), LOOK_MS);
setInterval(() => queue.children.length && send(), SEND_MS);
