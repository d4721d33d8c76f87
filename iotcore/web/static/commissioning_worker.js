// Answers for the commissioning pages when there is no network: with what was last seen. What changes something is never answered here.

const STORE = "commissioning-1";
const WAIT_MS = 4000; // a cellar's last bar of signal is worse than none

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

async function answered(request) {
  const store = await caches.open(STORE);
  const cut = new AbortController();
  const waiting = setTimeout(() => cut.abort(), WAIT_MS);
  try {
    const fresh = await fetch(request, { signal: cut.signal });
    if (fresh.ok) {
      await store.put(request, fresh.clone());
    }
    return fresh;
  } catch (error) {
    const kept = await store.match(request, { ignoreVary: true });
    if (!kept) {
      throw error;
    }
    const headers = new Headers(kept.headers);
    headers.set("X-Kept", "yes"); // the page says that it is old
    return new Response(kept.body, { status: kept.status, headers });
  } finally {
    clearTimeout(waiting);
  }
}

self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  const ours = origin === self.location.origin && (pathname.startsWith("/commissioning/") || pathname.startsWith("/static/"));
  if (event.request.method === "GET" && ours && !pathname.includes("/files/")) {
    event.respondWith(answered(event.request));
  }
});
