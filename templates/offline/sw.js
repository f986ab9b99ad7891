// Keeps one page that says that Synclight cannot be reached, with what that page needs to look right, and nothing else:
// pages with records are private and never stay on a machine. Only pages that somebody opens go through here.
"use strict";

const PAGE = {{ url_for("offline.page")|tojson }};
const NEEDED = [
  {{ static("css/app.css")|tojson }},
  {{ static("js/app.js")|tojson }},
  {{ static("icons/synclight.svg")|tojson }},
  {{ static("vendor/icons.svg")|tojson }},
];
// Another release has other addresses, and so a shelf of its own.
const SHELF = `shell:${NEEDED[0]}`;

async function fill() {
  const shelf = await caches.open(SHELF);
  // Without cookies: the page as it is for nobody in particular.
  await Promise.all([PAGE, ...NEEDED].map(async (address) => {
    const answer = await fetch(address, { credentials: "omit" });
    if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
    await shelf.put(address, answer);
  }));
}

async function begin() {
  const others = (await caches.keys()).filter((name) => name !== SHELF);
  await Promise.all(others.map((name) => caches.delete(name)));
  // The page is asked for while this worker still wakes up.
  await self.registration.navigationPreload?.enable();
  await self.clients.claim();
}

async function open(event) {
  try {
    return (await event.preloadResponse) ?? (await fetch(event.request));
  } catch (failure) {
    const kept = await caches.match(PAGE);
    if (kept) return kept;
    throw failure;
  }
}

self.addEventListener("install", (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(begin()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.mode === "navigate" && request.method === "GET") {
    event.respondWith(open(event));
  } else if (NEEDED.includes(new URL(request.url).pathname)) {
    event.respondWith(caches.match(request.url).then((kept) => kept ?? fetch(request)));
  }
});
