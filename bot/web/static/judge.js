// Keys for the form of a pair: 1, 2 or = for the better reply, then y or n for each reply, u for undo. A complete form is sent
// immediately, but not after an arrow key, which only moves between the choices.
"use strict";
(() => {
  const form = document.getElementById("answer");
  const undo = document.getElementById("undo");
  const groups = ["better", "first_acceptable", "second_acceptable"];
  const value = (name) => new FormData(form).get(name);
  let sent = false;
  let moved = false; // by an arrow key

  function sendIfComplete() {
    if (!sent && groups.every((name) => value(name) !== null)) {
      sent = true;
      form.requestSubmit();
    }
  }

  function press(key) {
    if (key === "u") {
      if (form && groups.some((name) => value(name) !== null)) form.reset();
      else if (undo && !sent) { sent = true; undo.requestSubmit(); }
      return;
    }
    if (!form) return;
    const name = "yn".includes(key) ? groups.slice(1).find((each) => value(each) === null) : "better";
    const input = [...form.querySelectorAll("input[type=radio]")].find((each) => each.name === name && each.value === key);
    if (input) { input.checked = true; sendIfComplete(); }
  }

  document.addEventListener("pointerdown", () => { moved = false; });
  document.addEventListener("keydown", (event) => {
    moved = event.key.startsWith("Arrow");
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !/^[12=ynuYNU]$/.test(event.key)) return;
    event.preventDefault();
    press(event.key.toLowerCase());
  });
  if (form) form.addEventListener("change", () => { if (!moved) sendIfComplete(); });
})();
