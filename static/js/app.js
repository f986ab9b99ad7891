// What the frame does beyond plain links and forms: theme, menus, the connection's pop-up, focus after a swap, and calm
// words where an answer fails. Everything here only adds to pages that work without it.
"use strict";
(() => {
  const A_YEAR = 365 * 24 * 3600;
  const html = document.documentElement;
  // A page without the frame has no texts, and says nothing.
  const texts = JSON.parse(document.querySelector('meta[name="texts"]')?.content ?? "{}");
  const role = (name, within = document) => within.querySelector(`[data-role="${name}"]`);
  const remember = (name, value) => {
    document.cookie = `${name}=${value}; path=/; max-age=${A_YEAR}; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  };

  // The server writes times and sentences in the reader's zone.
  remember("tz", Intl.DateTimeFormat().resolvedOptions().timeZone);

  // ---- Theme ------------------------------------------------------------------------------------------------------

  document.addEventListener("submit", (event) => {
    if (!event.target.matches('[data-role="theme"]') || !event.submitter) return;
    event.preventDefault();
    const chosen = event.submitter.value;
    remember("theme", chosen);
    html.dataset.theme = chosen;
    document.querySelector('meta[name="color-scheme"]').content = chosen === "system" ? "light dark" : chosen;
    for (const button of event.target.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === chosen));
    }
  });

  // ---- Installed, and without a network -----------------------------------------------------------------------------

  // After all that the page itself needs.
  addEventListener("load", () => {
    navigator.serviceWorker?.register("/sw.js").catch((problem) => console.warn("No page for times without a network:", problem));
  });
  if (role("offline")) addEventListener("online", () => location.reload());

  // ---- Menus and the connection's pop-up ---------------------------------------------------------------------------

  const openMenus = () => document.querySelectorAll("details.menu[open], details.connection[open]");

  document.addEventListener("click", (event) => {
    for (const menu of openMenus()) {
      // The backdrop of a sheet is part of the element itself.
      const inside = menu.contains(event.target) && menu !== event.target;
      if (!inside || event.target.closest('.menu-body a, [data-role="close-details"]')) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of openMenus()) {
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
      close(menu);
    }
  });

  // The pop-up opens on hover and on keyboard focus, stays while the pointer or the focus is in it, and a click keeps it.
  const LEAVE_AFTER = 250;
  const hovered = new WeakMap();
  // Where it is a sheet, only a tap opens it.
  const isSheet = matchMedia("(width < 45rem)");
  const box = (event) => (event.target instanceof Element ? event.target.closest('[data-role="connection-box"]') : null);

  function close(menu) {
    clearTimeout(hovered.get(menu));
    hovered.delete(menu);
    menu.open = false;
  }

  document.addEventListener("pointerover", (event) => {
    const details = box(event);
    if (!details || event.pointerType !== "mouse" || isSheet.matches) return;
    clearTimeout(hovered.get(details));
    if (details.open && !hovered.has(details)) return;
    details.open = true;
    hovered.set(details, 0);
  });

  document.addEventListener("pointerout", (event) => {
    const details = box(event);
    if (!details || !hovered.has(details) || details.contains(event.relatedTarget)) return;
    hovered.set(details, setTimeout(() => details.matches(":focus-within:has(:focus-visible)") || close(details), LEAVE_AFTER));
  });

  document.addEventListener("click", (event) => {
    const details = event.target.closest('[data-role="connection"]') && box(event);
    if (!details || !hovered.has(details)) return;
    event.preventDefault(); // It is open already: the click keeps it open when the pointer leaves.
    clearTimeout(hovered.get(details));
    hovered.delete(details);
  });

  document.addEventListener("focusin", (event) => {
    if (!isSheet.matches && event.target.matches('[data-role="connection"]:focus-visible')) box(event)?.setAttribute("open", "");
  });

  document.addEventListener("focusout", (event) => {
    const details = box(event);
    if (details?.open && !hovered.has(details) && event.relatedTarget && !details.contains(event.relatedTarget)) close(details);
  });

  // Live messages bring the state of a connection; its colour follows.
  document.addEventListener("synclight:state", ({ detail: state }) => {
    if (!state.key.startsWith("connection:")) return;
    for (const view of document.querySelectorAll(`[data-key="${state.key}"]`)) view.dataset.state = state.state;
  });

  // ---- Counters ---------------------------------------------------------------------------------------------------

  // A counter that the phone shows in part is no sight for whoever comes to it by keyboard.
  document.addEventListener("focusin", (event) => {
    event.target.closest(".counter")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  // ---- Swaps ------------------------------------------------------------------------------------------------------

  const inPage = (path) => path.split(/[?#]/)[0];
  let shown = inPage(location.pathname);

  document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    if (!ctx.sourceElement.matches?.('[data-role="filters"], #search')) return;
    // An address names only what is chosen.
    for (const [name, value] of [...ctx.request.body]) if (!value) ctx.request.body.delete(name);
  });

  // A page without the frame, such as the one to sign in, cannot be swapped into it, and neither can one in another language,
  // which was chosen in another tab. What is asked for beside a form, and what a form is refused with, stays with it.
  const fits = ({ text, target, response }) =>
    text.includes("hx-history-elt") &&
    (target?.id !== "page" || response.status >= 400 || html.lang.startsWith(response.headers.get("Content-Language") ?? ""));

  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    hideToast();
    if (ctx.response.status >= 500 || ctx.response.status === 204 || fits(ctx)) return;
    event.preventDefault();
    location.assign(ctx.response.raw.url);
  });

  document.addEventListener("htmx:after:swap", () => {
    for (const link of document.querySelectorAll("[data-nav]")) {
      const current = location.pathname.startsWith(link.pathname);
      current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    }
    const moved = shown !== inPage(location.pathname);
    shown = inPage(location.pathname);
    // Reading goes on at the title of a new page, unless the page itself says where.
    const active = document.activeElement;
    if (document.querySelector("#page [autofocus]")) return;
    if (moved || !active || active === document.body) document.querySelector("#page h1")?.focus({ preventScroll: true });
  });

  // Where an answer takes its time, the page that is left gives way to the outline of the one that comes. Nothing is taken
  // out of it: whoever gets no answer is back where they were.
  const OUTLINE_AFTER = 400;
  let awaited;

  function outlineOf(path) {
    const { pathname } = [...document.querySelectorAll("[data-nav]")].find((link) => path.startsWith(link.pathname)) ?? {};
    if (path === pathname) return "list";
    return pathname && /^\/\d+$/.test(path.slice(pathname.length)) ? "record" : "";
  }

  document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
    const { sourceElement: link, target: page } = ctx;
    if (page?.id !== "page" || !link.matches?.("a[href]")) return;
    const outline = outlineOf(link.pathname);
    if (!outline) return;
    clearTimeout(awaited?.timer);
    const timer = setTimeout(() => {
      Object.assign(awaited, { page, top: scrollY });
      page.dataset.awaits = outline;
      page.ariaBusy = "true";
    }, OUTLINE_AFTER);
    awaited = { ctx, timer };
  });

  document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    if (awaited?.ctx !== ctx) return;
    clearTimeout(awaited.timer);
    const { page, top } = awaited;
    awaited = undefined;
    if (!page?.isConnected) return;
    delete page.dataset.awaits;
    page.ariaBusy = null;
    scrollTo({ top, behavior: "instant" });
    ctx.sourceElement.focus({ preventScroll: true });
  });

  // Who goes back waits for nothing any more.
  document.addEventListener("htmx:before:history:restore", () => awaited?.ctx.request.abort());

  // Asked again for a part of the page when the record that it tells about changes, until there is an answer: nobody
  // pressed anything, so that nobody could press it again.
  document.addEventListener("synclight:state", ({ detail: state }) => {
    for (const part of document.querySelectorAll(`[data-refresh="${state.key}"]`)) htmx.trigger(part, "refresh");
  });
  const refreshLater = (part) => setTimeout(() => part.isConnected && htmx.trigger(part, "refresh"), 2_000 + Math.random() * 4_000);

  document.addEventListener("submit", (event) => {
    if (event.target.matches('[data-role="filters"]')) document.getElementById("filters").hidePopover?.();
  });

  // ---- When an answer fails ---------------------------------------------------------------------------------------

  let again;

  function showToast(sentence, retry) {
    const toast = role("toast");
    if (!toast) return;
    again = retry;
    toast.querySelector("p").textContent = sentence;
    role("try-again", toast).hidden = !retry;
    toast.hidden = false;
  }

  function hideToast() {
    const toast = role("toast");
    if (toast) toast.hidden = true;
  }

  function offerAgain(ctx, sentence) {
    const source = ctx.sourceElement;
    if (source.matches?.("[data-refresh]")) return refreshLater(source);
    const { method, action } = ctx.request;
    // Only what reads may be repeated by itself; a form is still there, to be sent again by the person.
    const retry = method === "GET" ? () => htmx.ajax("GET", action, { source: source.isConnected ? source : document.body, target: "#page", select: "#page", swap: "outerHTML", push: "true" }) : undefined;
    showToast(sentence, retry);
  }

  document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
    if (ctx.response.status < 500) return;
    offerAgain(ctx, ctx.response.status === 503 ? texts.cannotAnswer : texts.wentWrong.replace("{n}", ctx.response.headers.get("X-Request-ID")));
  });

  document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    if (!ctx?.request || ctx.response) return;
    offerAgain(ctx, navigator.onLine ? texts.noAnswer : texts.offline);
  });

  addEventListener("offline", () => showToast(texts.offlineOld));
  addEventListener("online", hideToast);

  document.addEventListener("click", (event) => {
    if (event.target.closest('[data-role="close-toast"]')) hideToast();
    if (event.target.closest('[data-role="try-again"]')) {
      hideToast();
      again?.();
    }
  });

  document.addEventListener("synclight:signed-out", (event) => {
    event.preventDefault();
    showToast(texts.signedOut, () => location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`));
  });

  // ---- Forms -------------------------------------------------------------------------------------------------------

  // Most visits need no form, so that its script comes with the first one, or with a record that can be edited. A page
  // of a form that is opened by its address names it itself; a module runs once, however often it is asked for.
  const careForForms = () => document.querySelector('[data-form], [data-role="edit"]') && import("./forms.js");
  document.addEventListener("htmx:after:swap", careForForms);
  careForForms();

  // Drafts belong to one person: whoever signs in removes what others left, and whoever signs out leaves nothing, in no
  // tab. Browsers empty their storage at the server's word over TLS only.
  function dropDrafts(except) {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith("draft:") && !(except && key.startsWith(except))) localStorage.removeItem(key);
    }
  }
  // A page without the frame is nobody's: it may be the one that says that there is no network.
  if (document.body.dataset.user) dropDrafts(`draft:${document.body.dataset.user}:`);
  const tabs = new BroadcastChannel("synclight");
  tabs.onmessage = () => dropDrafts();
  document.addEventListener("submit", (event) => {
    if (!event.target.matches('[data-role="sign-out"]')) return;
    dropDrafts();
    tabs.postMessage("sign-out");
  });
})();
