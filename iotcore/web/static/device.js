// One device's page: when something of it changes, the server draws its details anew.

import { everySecond, follow } from "./stream.js";

const PAUSE_MS = 500;
const LOOK_MS = 3000; // for what the registry alone knows: tests, photos, a signature
const details = document.getElementById("details");
const name = details.dataset.device;
let planned = 0;
let drawn = "";

async function draw() {
  planned = 0;
  const response = await fetch(`/devices/${encodeURIComponent(name)}/details`);
  if (response.ok) {
    const text = await response.text();
    if (text !== drawn) {
      details.innerHTML = drawn = text;
    }
  }
}

function plan() {
  planned ||= setTimeout(draw, PAUSE_MS);
}

follow({
  everything: plan,
  incidents: plan,
  devices: ({ set }) => set.some((piece) => piece.id === name) && plan(),
});
everySecond();
setInterval(() => document.hidden || plan(), LOOK_MS);
