// The stage inside Gradio: `element`, `props`, `watch` and `trigger` are of its HTML component.
(() => {
  const send = { pick: "pick", turn: "turn", choose: "choose", brush: "brush" };
  let waiting = 0, asked = 0, ready = false, early = null;
  const tell = (name, data) => (ready ? trigger(name, data) : (early = [name, data])); // the server has not answered yet
  const stage = mountStage(element.querySelector(".tr-host"), {
    luts: LUTS,
    on: {
      pick: (token) => {
        asked = performance.now();
        clearTimeout(waiting); // what was turned to just now goes with it
        tell(send.pick, { token, n: stage.scene().view === "walk" ? stage.shown() + 1 : null });
      },
      turn: (n) => {
        const address = new URL(location.href);
        address.searchParams.set("n", n);
        history.replaceState(history.state, "", address);
        clearTimeout(waiting);
        waiting = setTimeout(() => ready && trigger(send.turn, { n }), 250);
      },
      choose: (layer, head) => tell(send.choose, { layer, head }),
      brush: (region) => tell(send.brush, { region }),
    },
  });
  element.stage = stage;
  function update() {
    if (!props.value) return;
    const given = JSON.parse(props.value);
    const host = element.querySelector(".tr-host");
    if (!host.contains(stage.box)) host.replaceChildren(stage.box);
    const address = new URL(location.href), theme = address.searchParams.get("__theme");
    const query = new URLSearchParams(address.search);
    query.delete("__theme");
    if (given.first && !["", new URLSearchParams(given.link).toString()].includes(query.toString())) return;
    address.search = given.link;
    if (theme) address.searchParams.set("__theme", theme);
    history.replaceState(history.state, "", address);
    stage.show(given.scene);
    if (asked) stage.milliseconds = performance.now() - asked;
    asked = 0;
    if (given.first || ready) return;
    ready = stage.ready = true;
    if (early) trigger(...early);
  }
  document.addEventListener("click", (event) => { // on a telephone the picture is out of sight there
    if (!event.target.closest("#draw, #read, #side .choices button") || !matchMedia("(max-width: 640px)").matches) return;
    element.scrollIntoView({ behavior: "smooth" });
  });
  watch("value", update);
  update();
})();
