// The coverage page: it is drawn by the server; it only keeps the clock, notices silence, and asks again each minute.

import { everySecond, follow, isStale } from "./stream.js";

const AGAIN_MS = 60_000;

follow({});
everySecond();
setInterval(() => isStale() || document.hidden || location.reload(), AGAIN_MS);
