// One device's page: when something of it changes, the server draws its details anew.

import { everySecond, follow } from "./stream.js";

const PAUSE_MS = 500;
const details = document.getElementById("details");
const name = details.dataset.device;
let planned = 0;

async function draw() {
  planned = 0;
  const response = await fetch(`/devices/${encodeURIComponent(name)}/details`);
  if (response.ok) {
    details.innerHTML = await response.text();
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
