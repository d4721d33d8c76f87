// The live stream of every page: connect, notice when it falls silent, keep times running.

const STALE_MS = 10_000;
const body = document.body;
const stale = document.getElementById("stale");

let lastNews = performance.now();
let serverAhead = Number(body.dataset.now) - Date.now(); // the server's clock counts: a wall screen's own may be wrong

export const now = () => Date.now() + serverAhead;
export const isStale = () => !stale.hidden;

export function follow(handlers) {
  const source = new EventSource(`/events?after=${encodeURIComponent(body.dataset.cursor)}`);
  for (const kind of ["everything", "incidents", "devices", "status", "beat"]) {
    source.addEventListener(kind, (event) => {
      const news = JSON.parse(event.data);
      lastNews = performance.now();
      serverAhead = news.now_ms - Date.now();
      handlers[kind]?.(news);
      tick(handlers.tick);
    });
  }
  source.addEventListener("error", () => {
    // a refusal (too many pages, a restart behind a proxy) ends an EventSource for good: start anew
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => stillSignedIn().then(() => follow(handlers)), 2000);
    }
  });
}

// a session that has ended refuses the stream: ask who we are, and leave the page that nobody may see any more
async function stillSignedIn() {
  try {
    const response = await fetch("/api/v1/me", { headers: { Accept: "application/json" } });
    if (response.status === 401) {
      location.assign(`/sign-in?to=${encodeURIComponent(location.pathname)}`);
    }
  } catch {
    // no connection: the stream tries again, and the page says that it is stale
  }
}

export function everySecond(more) {
  tick(more);
  setInterval(() => tick(more), 1000);
}

export function ago(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [word, n] =
    seconds < 60 ? ["agoSeconds", seconds]
    : seconds < 3600 ? ["agoMinutes", Math.floor(seconds / 60)]
    : seconds < 86400 ? ["agoHours", Math.floor(seconds / 3600)]
    : ["agoDays", Math.floor(seconds / 86400)];
  return body.dataset[word].replace("{n}", n);
}

const clock = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Asia/Ho_Chi_Minh", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

function tick(more) {
  const at = now();
  const silence = performance.now() - lastNews;
  stale.hidden = silence < STALE_MS;
  body.classList.toggle("is-stale", !stale.hidden);
  if (!stale.hidden) {
    setText(document.getElementById("stale-age"), ago(silence));
  }
  setText(document.getElementById("clock"), clock.format(at));
  for (const time of document.querySelectorAll("time[data-elapsed]")) {
    setText(time, span(at - Number(time.dataset.elapsed)));
  }
  for (const time of document.querySelectorAll("time[data-ago]")) {
    setText(time, ago(at - Number(time.dataset.ago)));
  }
  more?.(at);
}

function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}
