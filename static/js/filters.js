// What the filters of a list ask for beside the list itself: how many records each choice has, and suggestions for what is
// typed. The list is there first, and works without either.
"use strict";
(() => {
  // As often as numbers are worth reading again while a sync changes many records.
  const COUNTED_EVERY = 5_000;
  const SUGGESTED_AFTER = 150;

  // What a server that can answer says, else undefined: a person who has been signed out gets a page, and the frame says
  // when there is no network. What is shown stays then.
  async function ask(address, signal) {
    try {
      const answer = await fetch(address, { signal });
      const isData = answer.ok && answer.headers.get("Content-Type")?.startsWith("application/json");
      return isData ? await answer.json() : undefined;
    } catch (failure) {
      if (failure.name !== "AbortError") console.warn("The filters could not ask:", failure);
      return undefined;
    }
  }

  // ---- Counts -----------------------------------------------------------------------------------------------------

  const counted = new WeakSet();
  let last = -COUNTED_EVERY;
  let waiting;

  const panel = () => document.querySelector("[data-counts]");

  // Nobody is told what stands in a sheet that is closed.
  async function count() {
    const filters = panel();
    if (!filters?.checkVisibility()) return;
    counted.add(filters);
    last = performance.now();
    const counts = await ask(filters.dataset.counts);
    if (!counts) return;
    for (const part of filters.querySelectorAll("[data-choice]")) part.textContent = counts[part.dataset.choice] ?? "";
  }

  function countSoon() {
    waiting ??= setTimeout(() => {
      waiting = undefined;
      count();
    }, Math.max(0, last + COUNTED_EVERY - performance.now()));
  }

  document.addEventListener("synclight:state", ({ detail: state }) => {
    if (state.key === panel()?.dataset.countsOf) countSoon();
  });
  document.addEventListener("htmx:after:swap", () => {
    if (!counted.has(panel())) count();
  });
  // A sheet that opens does not say so to what it stands in.
  document.addEventListener("toggle", (event) => event.target === panel() && event.newState === "open" && count(), true);
  matchMedia("(width >= 73.75rem)").addEventListener("change", count);
  count();

  // ---- Suggestions ------------------------------------------------------------------------------------------------

  let asking = new AbortController();
  let typing;

  async function suggest(input) {
    asking.abort();
    asking = new AbortController();
    const address = `${input.dataset.suggest}?begin=${encodeURIComponent(input.value)}`;
    const found = await ask(address, asking.signal);
    if (found && input.list) input.list.replaceChildren(...found.map((value) => new Option(value, value)));
  }

  document.addEventListener("input", ({ target }) => {
    if (!target.dataset?.suggest) return;
    clearTimeout(typing);
    typing = setTimeout(suggest, SUGGESTED_AFTER, target);
  });
  document.addEventListener("focusin", ({ target }) => {
    if (target.dataset?.suggest && !target.list.options.length) suggest(target);
  });
})();
