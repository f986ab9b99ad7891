// The care for what somebody has typed into the form of a record: who leaves is asked, what was not saved is kept on this
// device and offered again, and what others change meanwhile is told field by field, to be taken or not.
//
// A draft is what the form held when it was last typed into. It is kept in the browser under its person's number, and is
// gone once it is saved, discarded, or its person signs out: see static/js/app.js, which loads this with the first form.
(() => {
  const KEEP_AFTER = 300;

  const texts = JSON.parse(document.querySelector('meta[name="texts"]').content);
  const role = (name, within = document) => within.querySelector(`[data-role="${name}"]`);
  const recordForm = () => document.querySelector("[data-form]");
  const pairs = (form) => [...new FormData(form)].filter(([name]) => name !== "csrf_token");
  const typed = (form) => JSON.stringify(pairs(form));

  // ---- Lines that are removed ------------------------------------------------------------------------------------------

  // The lines behind one that was removed move up: what was typed into them since is not lost, the same is asked again.
  const asked = new WeakMap();
  document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    if (ctx.sourceElement.name === "remove") asked.set(ctx, typed(ctx.sourceElement.form));
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx } = event.detail;
    const { sourceElement: button } = ctx;
    if (!asked.has(ctx) || ctx.response.status !== 200 || asked.get(ctx) === typed(button.form)) return;
    event.preventDefault();
    button.click();
  });

  // ---- Unsaved -----------------------------------------------------------------------------------------------------

  const opened = new WeakMap();
  let leaving = false;
  let restoring = false;

  function begin() {
    const form = recordForm();
    leaving = false;
    if (!form || opened.has(form)) return;
    const isAsTyped = restoring || form.matches(":has(.form-errors)");
    restoring = false;
    opened.set(form, isAsTyped ? "" : typed(form));
    tellElsewhere(form);
    if (!isAsTyped) offer(form);
  }

  function isUnsaved() {
    const form = recordForm();
    return Boolean(form) && !leaving && opened.get(form) !== typed(form);
  }

  function mayLeave() {
    if (!isUnsaved()) return true;
    leaving = confirm(texts.leave);
    if (leaving) drop(recordForm());
    return leaving;
  }

  addEventListener("beforeunload", (event) => isUnsaved() && event.preventDefault());
  document.addEventListener("submit", (event) => {
    if (event.target !== recordForm()) return;
    keep();
    leaving = true;
  });
  document.addEventListener("htmx:config:request", (event) => {
    const { ctx } = event.detail;
    const replaces = ctx.target?.id === "page" && ctx.sourceElement !== recordForm();
    if (replaces && !mayLeave()) event.preventDefault();
  });
  document.addEventListener("htmx:finally:request", () => (leaving = false));

  // Back has already left when it is heard of: whoever stays is put back to where the form is.
  let place = window.navigation?.currentEntry?.index;
  let returning = false;
  document.addEventListener("htmx:after:history:update", () => (place = window.navigation?.currentEntry?.index));
  document.addEventListener("htmx:before:history:restore", (event) => {
    const here = window.navigation?.currentEntry?.index;
    if (returning) {
      returning = false;
      event.preventDefault();
    } else if (mayLeave()) {
      place = here;
    } else {
      returning = true;
      event.preventDefault();
      history.go(place - here);
    }
  });

  // ---- Drafts ------------------------------------------------------------------------------------------------------

  const mine = `draft:${document.body.dataset.user}:`;
  const keyOf = (form) => mine + form.getAttribute("action");
  let keeping;
  let signingOut = false;

  function keep() {
    clearTimeout(keeping);
    const form = recordForm();
    if (!form || leaving || signingOut) return;
    if (!isUnsaved()) {
      if (role("draft", form)?.hidden) drop(form);
      return;
    }
    try {
      localStorage.setItem(keyOf(form), JSON.stringify({ at: Date.now(), pairs: pairs(form) }));
    } catch {
      // The browser keeps nothing, or is full: who leaves is still asked.
    }
  }

  function drop(form) {
    clearTimeout(keeping);
    localStorage.removeItem(keyOf(form));
  }

  const isField = ([name]) => !/^(was-|take-|(once|drawn_in)$)/.test(name);
  const fieldsOf = (list) => JSON.stringify(list.filter(isField));

  function offer(form) {
    const kept = localStorage.getItem(keyOf(form));
    if (!kept) return;
    const draft = JSON.parse(kept);
    if (fieldsOf(draft.pairs) === fieldsOf(pairs(form))) return drop(form);
    const notice = role("draft", form);
    const at = notice.querySelector("time");
    at.dateTime = new Date(draft.at).toISOString();
    notice.hidden = false;
    document.dispatchEvent(new CustomEvent("synclight:times"));
    role("restore-draft", notice).onclick = () => restore(form, draft);
    role("discard-draft", notice).onclick = () => {
      drop(form);
      notice.hidden = true;
      form.querySelector("input:not([type=hidden]), select, textarea")?.focus();
    };
  }

  // The server draws the form anew with what the draft holds, also where it has more lines than the form has places.
  function restore(form, draft) {
    drawAnew(form, draft.pairs);
  }

  function drawAnew(form, held) {
    const again = document.createElement("form");
    again.method = "post";
    again.action = form.getAttribute("action");
    again.hidden = true;
    again.setAttribute("hx-push-url", "false");
    for (const [name, value] of [...held, ["again", "1"], ["csrf_token", form.elements.csrf_token.value]]) {
      const input = document.createElement("input");
      Object.assign(input, { type: "hidden", name, value });
      again.append(input);
    }
    opened.set(form, typed(form)); // What is typed here is either held, or its person has decided against it.
    restoring = true;
    document.getElementById("page").append(again);
    htmx.process(again);
    again.requestSubmit();
  }

  for (const event of ["input", "change"]) {
    document.addEventListener(event, ({ target }) => {
      if (!target.form || target.form !== recordForm()) return;
      clearTimeout(keeping);
      signingOut = false; // Whoever types on has stayed after all.
      keeping = setTimeout(keep, KEEP_AFTER);
    });
  }
  addEventListener("pagehide", keep);
  document.addEventListener("visibilitychange", () => document.hidden && keep());

  // Saved: the answer leads on to the record, or it is the form of the record that this one added before.
  document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    const { raw, status } = ctx.response;
    if (!ctx.sourceElement.matches?.("[data-form]")) return;
    if (status === 409 && ctx.sourceElement.elements.once) drop(ctx.sourceElement);
    if (status >= 400 || !raw.redirected) return;
    if (!new URL(raw.url).pathname.startsWith("/login")) drop(ctx.sourceElement);
  });

  // Whoever signs out leaves nothing, in no tab (static/js/app.js): a page that is left would keep its draft once more.
  function keepNothing() {
    signingOut = true;
    clearTimeout(keeping);
  }
  new BroadcastChannel("synclight").onmessage = keepNothing;
  document.addEventListener("submit", (event) => event.target.matches('[data-role="sign-out"]') && keepNothing());

  // ---- Changed elsewhere -------------------------------------------------------------------------------------------

  const TEXTS = "input[type=text], input[type=email], input[type=tel], input[type=date], textarea, select";

  // What the field has to hold to say `now`, undefined where only the server can tell, which then draws the form anew.
  function valueFor(control, raw, now) {
    if (!control?.matches?.(TEXTS)) return undefined;
    if (raw !== undefined || control.type === "date") return raw;
    if (control.tagName !== "SELECT") return now;
    const options = [...control.options].filter((one) => one.value === now || (now && one.text === now));
    return options.length === 1 ? options[0].value : undefined;
  }

  function button(words, act, describedBy) {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", className: "button", textContent: words, onclick: act });
    made.setAttribute("aria-describedby", describedBy);
    return made;
  }

  function tellElsewhere(form) {
    const notice = role("changed-elsewhere", form);
    const items = [];
    for (const was of form.querySelectorAll("[data-was][data-now]")) {
      const { was: name, now } = was.dataset;
      const item = document.createElement("li");
      const words = document.createElement("span");
      const label = was.dataset.label ?? form.querySelector(`label[for="${name}"]`).firstChild.textContent.trim();
      words.textContent = (now ? texts.isNow : texts.isEmpty).replace("{field}", () => label).replace("{n}", () => now);
      words.id = `now-${name}`;
      item.append(words);
      const control = form.elements[name];
      const value = valueFor(control, was.dataset.raw, now);
      const decide = (isTaken) =>
        value === undefined
          ? drawAnew(form, [...pairs(form), [`now-${name}`, isTaken ? "take" : "keep"]])
          : settle(form, was, control, value, isTaken);
      const actions = document.createElement("span");
      actions.className = "notice-actions";
      actions.append(
        button(texts.takeIt, () => decide(true), words.id),
        button(texts.keepMine, () => decide(false), words.id),
      );
      item.append(actions);
      items.push(item);
    }
    notice.querySelector("ul").replaceChildren(...items);
    notice.hidden = items.length === 0;
  }

  // From here on the form begins at what the others made of the field.
  function settle(form, was, control, value, isTaken) {
    if (isTaken) control.value = value;
    was.value = value;
    was.dataset.shown = was.dataset.now;
    delete was.dataset.now;
    delete was.dataset.raw;
    tellElsewhere(form);
    control.dispatchEvent(new Event("input", { bubbles: true }));
    control.focus();
  }

  document.addEventListener("synclight:state", ({ detail: state }) => {
    const form = recordForm();
    if (!form || form.dataset.key !== state.key || !state.values) return;
    for (const was of form.querySelectorAll("[data-was]")) {
      const now = state.values[was.dataset.live];
      if (now === undefined || now === was.dataset.now) continue;
      delete was.dataset.raw;
      if (now === was.dataset.shown) {
        delete was.dataset.now;
        continue;
      }
      was.dataset.now = now;
      const day = state.days[was.dataset.live];
      if (day) was.dataset.raw = day;
    }
    tellElsewhere(form);
  });

  document.addEventListener("htmx:after:swap", begin);
  begin();
})();
