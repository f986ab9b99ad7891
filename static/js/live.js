// Keeps every view on the page equal to the server: see docs/live.md for the messages and the attributes.
//
// A view is an element with data-key and data-version. The server only hints: a state is applied where it is newer, and
// every 30 s, after each swap and after each reconnection the page asks whether it is still right. Text goes in as
// textContent, marks are clones of the page's own templates: nothing that arrives is ever read as HTML.
"use strict";
(() => {
  const CHECK_EVERY = 30_000;
  const ANSWER_WITHIN = 8_000;
  const SUMMARY_EVERY = 5_000;
  const MARKED_FOR = 2_000;
  const MOST_THINGS = 500;
  const texts = JSON.parse(document.querySelector('meta[name="texts"]').content);

  const body = document.body;
  const role = (name) => document.querySelector(`[data-role="${name}"]`);
  const views = (selector = "[data-key]") => [...document.querySelectorAll(selector)];
  const soon = () => 1_000 + Math.random() * 4_000;

  // A message has a form for one and one for more, which is all that numbers from 1 need in our languages.
  const filled = (message, n) => message.replace("{n}", n);
  const several = (number, [one, more]) => filled(number === 1 ? one : more, number.toLocaleString(texts.locale));

  // ---- Times ------------------------------------------------------------------------------------------------------

  const two = (number) => String(number).padStart(2, "0");
  const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

  const dayAndMonth = (at) => `${at.getDate()}${texts.dayPoint} ${texts.months[at.getMonth()]}`;

  function day(at, now) {
    const midnight = (moment) => new Date(moment.getFullYear(), moment.getMonth(), moment.getDate());
    const days = Math.round((midnight(now) - midnight(at)) / 86_400_000);
    if (days === 0) return texts.today;
    if (days === 1) return texts.yesterday;
    return `${dayAndMonth(at)}${at.getFullYear() === now.getFullYear() ? "" : ` ${at.getFullYear()}`}`;
  }

  const exact = (at, now) => `${day(at, now)}, ${clock(at)}:${two(at.getSeconds())}`;

  // The same words as webapp.zone.Reader.age.
  function age(at, now) {
    const minutes = Math.floor((now - at) / 60_000);
    if (minutes < 1) return texts.justNow;
    if (minutes < 60) return filled(texts.minutesAgo, minutes);
    return day(at, now) === texts.today ? filled(texts.hoursAgo, Math.floor(minutes / 60)) : `${day(at, now)}, ${clock(at)}`;
  }

  // The same words as webapp.zone.Reader.until.
  function until(at, now) {
    const seconds = Math.floor((at - now) / 1_000);
    if (seconds < 1) return texts.now;
    if (seconds < 60) return filled(texts.inSeconds, seconds);
    if (seconds < 3_600) return filled(texts.inMinutes, Math.floor(seconds / 60));
    return day(at, now) === texts.today ? filled(texts.atTime, clock(at)) : `${dayAndMonth(at)}, ${clock(at)}`;
  }

  const FORMATS = { exact, in: until };

  function showTime(element) {
    const moment = element.getAttribute("datetime");
    const at = new Date(moment);
    const now = new Date();
    const text = moment ? (FORMATS[element.dataset.format] ?? age)(at, now) : element.dataset.never || "";
    if (element.textContent !== text) element.textContent = text;
    element.title = moment ? exact(at, now) : "";
  }

  document.addEventListener("click", (event) => {
    const time = event.target.closest('[data-role="moment"]')?.querySelector("time");
    if (!time) return;
    if (time.dataset.format) delete time.dataset.format;
    else time.dataset.format = "exact";
    showTime(time);
  });

  const showTimes = () => document.querySelectorAll("time[data-time]").forEach(showTime);

  // ---- Views ------------------------------------------------------------------------------------------------------

  const filterOf = (list) => list?.dataset.filterStatus?.split(" ").filter(Boolean) ?? [];

  // What of a view is its own, and not of another view inside it.
  const own = (view, selector) =>
    [view, ...view.querySelectorAll(selector)].filter((part) => part.matches(selector) && part.closest("[data-key]") === view);

  function put(element, value) {
    element.textContent = typeof value === "number" ? value.toLocaleString(texts.locale) : (value ?? "");
    element.hidden = element.textContent === "";
  }

  function showMark(element, state) {
    if (element.dataset.reason === state.reason) return; // Drawing it anew would restart its turning.
    const template = document.getElementById(`mark-${element.dataset.mark}-${state.variant}`);
    element.replaceChildren(template.content.cloneNode(true));
  }

  // The entries of a list of steps: those that are done, the one that it has come to, those to come. The last is an end.
  function showStep(list, step) {
    const last = list.children.length - 1;
    [...list.children].forEach((entry, index) => {
      entry.dataset.place = index < step || step === last ? "done" : index === step ? "now" : "next";
      index === step ? entry.setAttribute("aria-current", "step") : entry.removeAttribute("aria-current");
    });
  }

  function show(view, state) {
    view.dataset.version = state.version;
    const wanted = filterOf(view.closest("[data-list]"));
    if (view.dataset.row) view.toggleAttribute("data-left", Boolean(wanted.length && !wanted.includes(state.status)));
    if (state.status) {
      const { status, reason } = state;
      for (const mark of own(view, "[data-mark]")) {
        showMark(mark, state);
        Object.assign(mark.dataset, { status, reason });
      }
      Object.assign(view.dataset, { status, reason });
    }
    for (const part of own(view, "[data-text]")) if (part.dataset.text in state) put(part, state[part.dataset.text]);
    for (const part of own(view, "[data-value]")) part.textContent = state.values?.[part.dataset.value] ?? "";
    for (const list of own(view, "[data-step]")) showStep(list, Number(state.values?.[list.dataset.step]));
    for (const part of own(view, "[data-count]")) put(part, state.counts?.[part.dataset.count]);
    for (const time of own(view, "time[data-time]")) {
      if (!(time.dataset.time in state)) continue; // Such as that of an event, which stays.
      time.setAttribute("datetime", state[time.dataset.time] ?? "");
      showTime(time);
    }
    view.dataset.changed = "";
    clearTimeout(marked.get(view));
    marked.set(view, setTimeout(() => delete view.dataset.changed, MARKED_FOR));
  }
  const marked = new WeakMap();

  // What was deleted stays where it is until the list is drawn anew.
  const showGone = (view) => Object.assign(view.dataset, { gone: "", left: "" });

  function apply(state) {
    const older = views(`[data-key="${state.key}"]`).filter(({ dataset }) =>
      state.gone ? !("gone" in dataset) : Number(dataset.version) < state.version,
    );
    if (!older.length) return;
    document.dispatchEvent(new CustomEvent("synclight:state", { detail: state }));
    for (const view of older) state.gone ? showGone(view) : show(view, state);
    if (state.values || state.gone) changed.add(state.key);
  }

  // ---- What is told and offered -----------------------------------------------------------------------------------

  const changed = new Set();
  let told = 0;
  let telling;

  // One sentence for people who cannot see the marks, at most every 5 s.
  function tell() {
    if (!changed.size || telling) return;
    telling = setTimeout(() => {
      role("live-summary").textContent = several(changed.size, texts.recordsChanged);
      changed.clear();
      told = Date.now();
      telling = undefined;
    }, Math.max(0, told + SUMMARY_EVERY - Date.now()));
  }

  // How many records the list's filter had when the list was drawn: from the counters beside it.
  let drawn;
  function listed(list) {
    const wanted = filterOf(list);
    const counters = views(`[data-key="${list.dataset.key}"] [data-count]`);
    const counts = Object.fromEntries(counters.map((part) => [part.dataset.count, Number(part.textContent.replace(/\D/g, ""))]));
    return (wanted.length ? wanted : Object.keys(counts)).reduce((sum, status) => sum + (counts[status] ?? 0), 0);
  }

  // Rows never jump: what left the filter and what came into it is offered as a link that draws the list anew.
  function offer() {
    const list = document.querySelector("[data-list]");
    const link = role("list-changes");
    if (!list || !link) return;
    if (drawn?.list !== list) drawn = { list, number: listed(list) };
    const left = list.querySelectorAll("[data-row][data-left]").length;
    const number = left + Math.max(0, listed(list) - drawn.number + left);
    link.hidden = number === 0;
    link.textContent = several(number, texts.updateList);
    if (number && !list.querySelector("[data-row]")) link.click(); // Nothing is there that could jump.
  }

  // ---- The socket -------------------------------------------------------------------------------------------------

  const socket = io({
    transports: ["websocket"],
    auth: { tz: Intl.DateTimeFormat().resolvedOptions().timeZone },
    // After a restart of the server all its browsers come back: not all at once.
    reconnectionDelay: 500,
    reconnectionDelayMax: 5_000,
    randomizationFactor: 0.5,
    timeout: 5_000,
  });
  const kept = new Map();
  let answered = false;
  let signedOut = false;
  let checking;

  function showLink() {
    body.dataset.live = !navigator.onLine || signedOut ? "offline" : socket.connected && answered ? "live" : "reconnecting";
  }

  // Whether nobody is there to send to Sage and to read from it. Also told while the updates are paused: it is no record.
  const showStill = ({ still }) => body.toggleAttribute("data-still", still === true);

  function receive(states) {
    for (const state of states) {
      if (body.hasAttribute("data-paused")) kept.set(state.key, state);
      else apply(state);
    }
    tell();
    offer();
  }

  // Say what is on the page, and get what is newer.
  function check() {
    checkIn(CHECK_EVERY);
    if (!socket.connected) return;
    const things = {};
    for (const { dataset } of views().slice(0, MOST_THINGS)) {
      things[dataset.key] = Math.min(Number(dataset.version), things[dataset.key] ?? Infinity);
    }
    socket.timeout(ANSWER_WITHIN).emit("watch", { v: 1, things }, (late, answer) => {
      if (late) return socket.io.engine.close(); // The connection is dead without knowing it.
      answered = !answer.error;
      showLink();
      if (answer.error) checkIn(soon());
      else {
        showStill(answer);
        receive(answer.things);
      }
    });
  }

  function checkIn(delay) {
    clearTimeout(checking);
    checking = setTimeout(check, delay);
  }

  function reconnect() {
    if (!socket.connected) socket.disconnect().connect(); // Without waiting for the next try.
    else check();
  }

  function setSignedOut(now) {
    // static/js/app.js says so, and keeps the page.
    if (now && !signedOut) document.dispatchEvent(new CustomEvent("synclight:signed-out"));
    signedOut = now;
    showLink();
  }

  socket.on("connect", () => {
    setSignedOut(false);
    check();
  });
  socket.on("changes", (message) => receive(message.things));
  socket.on("still", showStill);
  socket.on("disconnect", (reason) => {
    answered = false;
    showLink();
    // The server ended this session's socket: asking again tells whether the session still holds.
    if (reason === "io server disconnect") socket.connect();
  });
  socket.on("connect_error", (error) => {
    showLink();
    if (error.message === "signed_out") setSignedOut(true);
    else if (!socket.active) setTimeout(() => socket.connect(), soon());
  });

  // ---- The page ---------------------------------------------------------------------------------------------------

  document.addEventListener("htmx:after:swap", () => {
    showTimes();
    offer();
    checkIn(0);
  });
  document.addEventListener("synclight:times", showTimes);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    showTimes();
    reconnect();
  });
  addEventListener("online", reconnect);
  addEventListener("offline", showLink);
  // A page with an open socket could not be kept for Back.
  addEventListener("pagehide", () => socket.disconnect());
  addEventListener("pageshow", (event) => event.persisted && socket.connect());
  document.addEventListener("click", (event) => {
    const button = event.target.closest('[data-role="pause-live"]');
    if (!button) return;
    const paused = body.toggleAttribute("data-paused");
    button.setAttribute("aria-pressed", String(paused));
    if (paused) return;
    const states = [...kept.values()];
    kept.clear();
    receive(states);
    check();
  });
  setInterval(showTimes, 15_000);
  setInterval(() => document.querySelectorAll('time[data-format="in"]').forEach(showTime), 1_000);
  showTimes();
  showLink();
  offer();
})();
